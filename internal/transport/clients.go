package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
)

// clients are the names of which a client's certificate must have one; nil stands for any. SPIFFE ids and DNS names are
// kept apart: an authority may check the one kind and not the other.
type clients struct{ spiffe, dns map[string]bool }

func newClients(names []string) *clients {
	if len(names) == 0 {
		return nil
	}
	c := &clients{spiffe: make(map[string]bool), dns: make(map[string]bool)}
	for _, name := range names {
		if strings.HasPrefix(name, "spiffe://") {
			c.spiffe[name] = true
		} else {
			c.dns[name] = true
		}
	}
	return c
}

// verify ends the handshake with a client that is not allowed. The certificate's chain was verified before.
func (c *clients) verify(state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 {
		return errors.New("no verified client certificate")
	}
	if c == nil {
		return nil
	}
	certificate := state.PeerCertificates[0]
	uris, err := uriNames(certificate)
	if err != nil {
		return err
	}
	if certificate.IsCA {
		return errors.New("the client's certificate is that of a CA")
	}
	// A certificate with two URI names is no SPIFFE identity (X509-SVID, section 2).
	if len(uris) == 1 && c.spiffe[uris[0]] {
		return nil
	}
	for _, name := range certificate.DNSNames {
		if c.dns[name] {
			return nil
		}
	}
	names := fmt.Sprintf("%q", append(uris, certificate.DNSNames...))
	return fmt.Errorf("the client's certificate has none of the allowed names; it has %.256s", names)
}

const tagURI = 6 // in a GeneralName (RFC 5280, section 4.2.1.6)

// uriNames returns the URIs among a certificate's alternative names, byte for byte. crypto/x509 has them parsed, and what
// it writes back may differ: spiffe://a/b# becomes spiffe://a/b.
func uriNames(c *x509.Certificate) ([]string, error) {
	var uris []string
	for _, extension := range c.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return nil, errors.New("the client's certificate has alternative names that cannot be parsed")
		}
		for _, name := range names {
			if name.Class == asn1.ClassContextSpecific && name.Tag == tagURI {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris, nil
}
