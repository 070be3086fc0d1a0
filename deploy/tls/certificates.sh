#!/usr/bin/env bash
# Certificates for Ray's connections: an authority of your own, and one certificate per call for a node.
#
#   certificates.sh FOLDER NAME ADDRESS...
#
# FOLDER/ca.crt, ca.key     made once; keep ca.key away from the nodes
# FOLDER/NAME.crt, NAME.key for a node (or for whoever connects: Ray has both sides show one) that is
#                           reached at these addresses: IP addresses, for Ray connects by them, or host names
set -euo pipefail
umask 077
if [ "$#" -lt 3 ]; then
    sed -n 's/^#   //p' "$0" >&2
    exit 2
fi
folder=$1 name=$2
shift 2
days=${DAYS:-365}
mkdir -p "$folder"
if [ ! -e "$folder/ca.crt" ]; then
    openssl req -x509 -newkey rsa:3072 -nodes -days "$days" -subj "/CN=ray authority" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout "$folder/ca.key" -out "$folder/ca.crt" 2> /dev/null
fi
names=
for address in "$@"; do
    case $address in
        *[!0-9.]*) [ "${address#*:}" = "$address" ] && kind=DNS || kind=IP ;;
        *) kind=IP ;;
    esac
    names+="${names:+,}$kind:$address"
done
openssl req -newkey rsa:3072 -nodes -subj "/CN=$name" \
    -keyout "$folder/$name.key" -out "$folder/$name.csr" 2> /dev/null
openssl x509 -req -in "$folder/$name.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial \
    -days "$days" -out "$folder/$name.crt" \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names") 2> /dev/null
rm "$folder/$name.csr"
echo "$folder/$name.crt for $names"
