#!/bin/sh
# Says whether this folder is what the holder of a key packed: nothing changed, nothing missing, nothing added.
#
#   sh verify.sh silokit.pub      the signer's public key, which must have come another way than this folder
#   sh verify.sh --unsigned       for a bundle that nobody signed: finds damage, not malice
#
# Needs OpenSSL 3 and sha256sum. Who does not trust a script from the folder that it judges runs its two commands:
#   openssl pkeyutl -verify -pubin -inkey silokit.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
#   sha256sum --strict -c SHA256SUMS
set -eu

refuse() {
  echo "REFUSED: $1" >&2
  exit 1
}

[ $# -eq 1 ] || refuse "say which key must have signed: sh verify.sh FILE.pub"
key=$1
[ "$key" = --unsigned ] || key=$(realpath -e "$key" 2> /dev/null) || refuse "there is no key $1"
cd "$(dirname "$0")"
[ -f SHA256SUMS ] || refuse "there is no SHA256SUMS"

if [ "$key" = --unsigned ]; then
  [ ! -e SHA256SUMS.sig ] || refuse "this bundle is signed: give the signer's public key"
  echo "Nobody signed this bundle: what follows finds damage, not malice."
else
  [ -f SHA256SUMS.sig ] || refuse "nobody signed this bundle; to check for damage alone: sh verify.sh --unsigned"
  echo "The key's fingerprint, to compare with what the signer reads to you:"
  openssl pkey -pubin -in "$key" -outform DER | sha256sum | cut -d ' ' -f 1 | sed 's/..../& /g; s/^/  /'
  openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig > /dev/null 2>&1 ||
    refuse "SHA256SUMS was not signed with this key"
fi

sha256sum --strict --quiet -c SHA256SUMS || refuse "the files named above are missing or not what was packed"
added=$(find . ! -type d ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig | sed 's|^\./||' | while read -r file; do
  cut -c 67- SHA256SUMS | grep -qxF -- "$file" || echo "$file"
done)
[ -z "$added" ] || refuse "these were added after packing: $added"
echo "VERIFIED: $(wc -l < SHA256SUMS) files are what was packed."
