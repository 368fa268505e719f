// Makes the vectors that Go's implementations of OpenPGP write, as make-openpgp runs it:
// that of WAL-G, and that of Proton. Its argument is the directory of the keys.
package main

import (
	"bytes"
	"io"
	"os"

	proton "github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/crypto/openpgp"
)

func sample(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i / 7 % 251)
	}
	return b
}
func check(err error) {
	if err != nil {
		panic(err)
	}
}
func main() {
	dir := os.Args[1] + "/"
	rsa, err := os.Open(dir + "openpgp_rsa.key")
	check(err)
	ring, err := openpgp.ReadArmoredKeyRing(rsa)
	check(err)
	var out bytes.Buffer
	w, err := openpgp.Encrypt(&out, ring, nil, nil, nil)
	check(err)
	// As a compressor writes: in pieces of some size.
	for _, p := range [][]byte{sample(20000)[:5], sample(20000)[5:9000], sample(20000)[9000:]} {
		_, err = w.Write(p)
		check(err)
	}
	check(w.Close())
	check(os.WriteFile(dir+"openpgp_go_20000", out.Bytes(), 0644))

	pub, err := os.Open(dir + "openpgp_public.key")
	check(err)
	pring, err := proton.ReadArmoredKeyRing(pub)
	check(err)
	out.Reset()
	w, err = proton.Encrypt(&out, pring, nil, nil, nil)
	check(err)
	_, err = io.Copy(w, bytes.NewReader(sample(20000)))
	check(err)
	check(w.Close())
	check(os.WriteFile(dir+"openpgp_proton_20000", out.Bytes(), 0644))
}
