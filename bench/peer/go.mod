module bench/peer

go 1.26

require github.com/keeper-security/secrets-manager-go/core v1.6.4
