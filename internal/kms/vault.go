package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"
)

// vaultKey is a key of Vault's transit engine. Ciphertexts are those of Tink's integration of Vault, which takes no context.
type vaultKey struct {
	client      *api.Client
	mount, name string
}

// openVault takes token, namespace and CA from VAULT_TOKEN and so on, and the address too if there is no host.
func openVault(host, mount, name string) (Key, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("environment of Vault: %w", config.Error)
	}
	if host != "" {
		config.Address, config.AgentAddress = "https://"+host, ""
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("environment of Vault: %w", err)
	}
	if err := private(client.Address()); err != nil {
		return nil, err
	}
	return &vaultKey{client, mount, name}, nil
}

// private refuses an address to which the token would travel in the clear.
func private(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback() {
		return errors.New("the address of Vault must be https; http on loopback only")
	}
	return nil
}

func (k *vaultKey) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	out, err := k.call(ctx, "encrypt", "plaintext", base64.StdEncoding.EncodeToString(plaintext), associatedData, "ciphertext")
	return []byte(out), err
}

func (k *vaultKey) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	out, err := k.call(ctx, "decrypt", "ciphertext", string(ciphertext), associatedData, "plaintext")
	if err != nil {
		return nil, err
	}
	plaintext, err := base64.StdEncoding.DecodeString(out)
	if err != nil {
		return nil, errors.New("the answer of Vault is no plaintext") // it may be part of one: not to be shown
	}
	return plaintext, nil
}

// call sends one text under its name and returns another from the answer.
func (k *vaultKey) call(ctx context.Context, operation, name, text string, associatedData []byte, wanted string) (string, error) {
	in := map[string]any{name: text}
	if len(associatedData) > 0 {
		in["associated_data"] = base64.StdEncoding.EncodeToString(associatedData)
	}
	out, err := k.client.Logical().WriteWithContext(ctx, k.mount+"/"+operation+"/"+k.name, in)
	if err != nil {
		return "", said(err)
	}
	if out != nil {
		if text, ok := out.Data[wanted].(string); ok && text != "" {
			return text, nil
		}
	}
	return "", fmt.Errorf("the answer of Vault has no %s", wanted)
}

// said is Vault's error in one line. A body that is not Vault's is left out: it may be our request, sent back.
func said(err error) error {
	var failed *api.ResponseError
	if !errors.As(err, &failed) {
		return err
	}
	text := "the answer is not Vault's"
	if !failed.RawError {
		text = strings.Join(failed.Errors, "; ")
	}
	return fmt.Errorf("%s %s: status %d: %s", failed.HTTPMethod, failed.URL, failed.StatusCode, text)
}
