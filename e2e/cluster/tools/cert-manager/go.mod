// Nothing is built from it: a test reads its schemas.
module cluster/cert-manager

go 1.26

require github.com/cert-manager/cert-manager v1.19.1
