// Package catest gives a test a certificate authority of its own, and certificates good and bad.
package catest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	// PEM is its certificate.
	PEM []byte

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New returns a new authority, whose name is that of every other.
func New(t testing.TB) *CA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{PEM: encode("CERTIFICATE", der), certificate: certificate, key: key}
}

// Pool returns a pool of the authority alone.
func (a *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Certificate says what is to be certified. Names are put in byte for byte, whatever they are.
type Certificate struct {
	CommonName string
	URIs, DNS  []string
	IPs        []net.IP
	// NotBefore and NotAfter are an hour from now if they are zero.
	NotBefore, NotAfter time.Time
	// Usage is for clients and servers if it is nil.
	Usage []x509.ExtKeyUsage
	IsCA  bool
}

// Pair is a certificate with its private key, both in PEM.
type Pair struct{ Cert, Key []byte }

// Issue certifies a new key.
func (a *CA) Issue(t testing.TB, c Certificate) Pair {
	t.Helper()
	key := newKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.CommonName},
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, ExtKeyUsage: c.Usage, KeyUsage: x509.KeyUsageDigitalSignature,
		IsCA: c.IsCA, BasicConstraintsValid: true, ExtraExtensions: alternativeNames(t, c),
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if c.Usage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{encode("CERTIFICATE", der), encode("PRIVATE KEY", private)}
}

// Server issues a certificate for a server on loopback with these further URIs.
func (a *CA) Server(t testing.TB, uris ...string) Pair {
	t.Helper()
	return a.Issue(t, Certificate{URIs: uris, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

// alternativeNames is the extension of that name, which crypto/x509 would not write with names of its dislike.
func alternativeNames(t testing.TB, c Certificate) []pkix.Extension {
	t.Helper()
	var names []asn1.RawValue
	add := func(tag int, name []byte) {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: name})
	}
	for _, name := range c.DNS {
		add(2, []byte(name))
	}
	for _, name := range c.URIs {
		add(6, []byte(name))
	}
	for _, ip := range c.IPs {
		add(7, ip.To4())
	}
	if names == nil {
		return nil
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
}

// Write puts the pair into tls.crt and tls.key in a folder and returns their paths.
func (p Pair) Write(t testing.TB, dir string) (certFile, keyFile string) {
	t.Helper()
	return WriteFile(t, dir, "tls.crt", p.Cert), WriteFile(t, dir, "tls.key", p.Key)
}

// WriteFile writes a file, in the place of one that is there, and returns its path.
func WriteFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Volume is a folder of secrets as Kubernetes mounts it: its files are links through the link ..data, which is moved to a
// new version as a whole.
type Volume struct {
	Dir string

	t       testing.TB
	version int
}

// NewVolume returns a volume with these files.
func NewVolume(t testing.TB, files map[string][]byte) *Volume {
	t.Helper()
	v := &Volume{Dir: t.TempDir(), t: t}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), v.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	v.Replace(files)
	return v
}

// Files are the files of a volume with this pair and CA.
func (p Pair) Files(ca []byte) map[string][]byte {
	return map[string][]byte{"tls.crt": p.Cert, "tls.key": p.Key, "ca.crt": ca}
}

// Path returns the path of a file.
func (v *Volume) Path(name string) string { return filepath.Join(v.Dir, name) }

// Replace puts a new version in the place of the one that is there.
func (v *Volume) Replace(files map[string][]byte) {
	v.t.Helper()
	v.version++
	next := fmt.Sprintf("..version-%d", v.version)
	if err := os.Mkdir(v.Path(next), 0o700); err != nil {
		v.t.Fatal(err)
	}
	for name, data := range files {
		WriteFile(v.t, v.Path(next), name, data)
	}
	if err := os.Symlink(next, v.Path("..data_tmp")); err != nil {
		v.t.Fatal(err)
	}
	if err := os.Rename(v.Path("..data_tmp"), v.Path("..data")); err != nil {
		v.t.Fatal(err)
	}
}

// Serial returns the certificate's serial number in hexadecimal.
func (p Pair) Serial(t testing.TB) string {
	t.Helper()
	block, _ := pem.Decode(p.Cert)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.SerialNumber.Text(16)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
