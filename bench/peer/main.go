// Command peer is the least that a secrets sidecar in Go needs: the official Go SDK fetches records by title, writes
// each as a JSON file, prints a line, and does so again after an interval. The benchmark measures it beside our own.
//
//	peer CONFIG DIRECTORY SECONDS TITLE...
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/keeper-security/secrets-manager-go/core"
)

// The server's public keys that the SDK knows, by id: keeper-sim's is not among them, and this SDK takes none from a config.
//
//go:linkname serverPublicKeys github.com/keeper-security/secrets-manager-go/core.keeperServerPublicKeys
var serverPublicKeys map[string]string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 4 {
		return fmt.Errorf("usage: peer CONFIG DIRECTORY SECONDS TITLE...")
	}
	directory, titles := arguments[1], arguments[3:]
	seconds, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	config, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	var own struct{ ServerPublicKey, ServerPublicKeyId string }
	if err := json.Unmarshal(config, &own); err != nil {
		return err
	}
	serverPublicKeys[own.ServerPublicKeyId] = own.ServerPublicKey
	client := core.NewSecretsManager(&core.ClientOptions{Config: core.NewMemoryKeyValueStorage(string(config))})
	if client == nil {
		return fmt.Errorf("the SDK refuses the config")
	}
	wanted := map[string]bool{}
	for _, title := range titles {
		wanted[title] = true
	}
	// As our sidecar does: the first call asks for all records, the later ones for those that were found.
	var uids []string
	for {
		records, err := client.GetSecrets(uids)
		if err != nil {
			return err
		}
		uids = nil
		for _, record := range records {
			if !wanted[record.Title()] {
				continue
			}
			uids = append(uids, record.Uid)
			file := filepath.Join(directory, record.Title()+".json")
			if err := os.WriteFile(file+".tmp", []byte(record.RawJson), 0o444); err != nil {
				return err
			}
			if err := os.Rename(file+".tmp", file); err != nil {
				return err
			}
		}
		fmt.Println("refreshed")
		time.Sleep(time.Duration(seconds) * time.Second)
	}
}
