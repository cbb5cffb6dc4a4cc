"""OpenSSH public keys: what ssh-keygen writes is read as it prints it, and everything else is refused."""

import base64

import pytest

from gateway.core.openssh import MAX_LINE_CHARS, PublicKeyError, parse_public_key

# As OpenSSH 9 made them, with the fingerprints that `ssh-keygen -l` prints.
KEYS = {
    "ed25519": (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINDgBnIVpOb4oiC03mSIBpW6SZDkrM5Lmk/l550YmY/V ed25519@test",
        "SHA256:/q2g+VHbB3EfN4UqLpWp1WYO+35JqwX8GUGKNGcQ7SI",
    ),
    "rsa": (
        (
            "ssh-rsa "
            "AAAAB3NzaC1yc2EAAAADAQABAAABAQCfziALSTAChltbByjGI8sSNcZG8A8ylHejbqpqm09I1/CkbwRZAEwzZKu5x0"
            "LzH3hMNKjpAppaGyemUoamA4qb8TRLQQHAVS0ASIH/e/LdDLOiPIzbdKlWcZ5U6w2hrz9DQlhFgDp72OhYkuBIuChY"
            "1wqkU/dpuViPr16E8DErt/iodaHmj5GCQTzgh4qVzav7HOdZ4RWcs78p09kHw+lL5P3AFtIg0q0CyaKiHRPcpVJIjL"
            "aHjZYArGI2rocKbYI/5fhG2oo1iJNT0Hry5fvaOL0+HRjrch149Zlc+V9CB0Q75azgoK3xC/H39w9TRaXq+Ln73okK"
            "Ex/oL/6dD0n7"
            " rsa@test"
        ),
        "SHA256:b5Ju4oJtkH4nWsRWbLgI6crHQG2ajsbVLOatgQcALV0",
    ),
    "p256": (
        (
            "ecdsa-sha2-nistp256 "
            "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIxbs49GAAhrgApVY30cUR7rGlHzxE3Ynz6rQz"
            "z8EZRj3xIrxgCp5UTgpVoK60o6O4iJ1k0xyNCOcPeh1xiBWv8="
            " p256@test"
        ),
        "SHA256:sBufLcP7Kt6fXazIVKSPHx55yP3wUe1D0V6JFiFRj+I",
    ),
    "p384": (
        (
            "ecdsa-sha2-nistp384 "
            "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBCDUHMqQxsjhes99E4oo+H8oGFlFSq4575KIZu"
            "nyuQEM7PucOCBNr5mz7GDOZEJ0+mcnvy2osp/kJHVWXA6dbE9lP5HffvgPmhFkvQiRJxmjUkZHxs0chSDz+LwAcMHZ"
            "5w=="
            " p384@test"
        ),
        "SHA256:TOWfz65s4+4SO+kNbHtaNkhmJwnGRoFhEngdeb8QFL4",
    ),
    "p521": (
        (
            "ecdsa-sha2-nistp521 "
            "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBADkZT0W3yiLkV1qj54yNxi1UCQ7q2Vnzt8tKy"
            "f2F3hKKU9RBb0lEhnr8jgcUtUYqKpHUhn9xM01HsaQZoP+pKGU3QH1SDIDyygh1tVjuZvUCIvDxQYY1OHyPWwO4lpC"
            "1XuLr/bWSFZqnyBIEbuZWNcMZoBhLXVTJEjxBS4ggwHHHEj1wA=="
            " p521@test"
        ),
        "SHA256:qQG1rwS5NrT6BD9zM6XB5/icM9KhqMgsfjuTMulwtyM",
    ),
    "sk_ed25519": (
        (
            "sk-ssh-ed25519@openssh.com "
            "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAINDgBnIVpOb4oiC03mSIBpW6SZDkrM5Lmk/l550YmY/VAA"
            "AABHNzaDo="
            " sk"
        ),
        "SHA256:upkpY1Emf5gwvkPo8IKLCUh+mym2EHETfY53+mODhhk",
    ),
    "sk_ecdsa": (
        (
            "sk-ecdsa-sha2-nistp256@openssh.com "
            "AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBIxbs49GAAhrgApVY3"
            "0cUR7rGlHzxE3Ynz6rQzz8EZRj3xIrxgCp5UTgpVoK60o6O4iJ1k0xyNCOcPeh1xiBWv8AAAAEc3NoOg=="
            " sk"
        ),
        "SHA256:Ungl+UUD3nI6Vk7WXK9Odc6GxzzraE6EB4O6veYEYis",
    ),
}
SMALL_RSA = (
    "AAAAB3NzaC1yc2EAAAADAQABAAAAgQDhleuzaQm05YO4urnfbcUTOwvsTU8Y+pNW4D6KnDYUoIPkO922aC3/1n0/nqZwJgiycc04"
    "T6G0Db1iMU0OQvbG4EC6xRmEsyH7JMkVqK8/B/4uDmP+fcbPFBCOAIw86oPOHxSzV4swtjxSSl7V+Vpo925MV35BLwnhzEP6IgVs"
    "jw=="
)
ED25519, P256 = KEYS["ed25519"][0], KEYS["p256"][0]


def field(content: bytes) -> bytes:
    """Return a field of a blob."""
    return len(content).to_bytes(4, "big") + content


def line(kind: str, *fields: bytes, tail: bytes = b"") -> str:
    """Return a key's line of these fields."""
    return f"{kind} {base64.b64encode(b''.join(map(field, fields)) + tail).decode()}"


def number(value: int) -> bytes:
    """Return a positive number as SSH writes it."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_read_as_ssh_keygen_prints_it(name: str) -> None:
    """Every type that is served, with its comment and the fingerprint that OpenSSH prints."""
    text, fingerprint = KEYS[name]
    key = parse_public_key(text)
    assert (key.line, key.fingerprint) == (text, fingerprint)


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    """The end of a `.pub` file, and what was copied with it; a key without a comment has none."""
    bare = " ".join(ED25519.split()[:2])
    for text in (f"{bare}\n", f"{bare}\r\n", f"  {bare}  ", bare.replace(" ", "   ")):
        assert parse_public_key(text).line == bare


def test_the_fingerprint_is_of_the_key_alone() -> None:
    """Another comment is the same key."""
    bare, _, _ = ED25519.rpartition(" ")
    assert parse_public_key(f"{bare} another").fingerprint == KEYS["ed25519"][1]


E, N = number(65537), number((1 << 2047) + 1)
POINT = b"\4" + bytes(64)
BAD = {
    "empty": "",
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----",
    "an option": f'command="reboot" {ED25519}',
    "a flag": f"no-pty {ED25519}",
    "two keys": f"{ED25519}\n{P256}",
    "a line in the comment": f"{ED25519}\u2028ssh-rsa",
    "a NUL in the comment": f"{ED25519}\0",
    "a long comment": f"{ED25519}{'c' * 256}",
    "too long": f"{ED25519} {'c' * MAX_LINE_CHARS}",
    "no blob": "ssh-ed25519",
    "no base64": "ssh-ed25519 %%%%%%%%%%%%%%%%%%%%",
    "base64 cut off": ED25519.split()[0] + " " + ED25519.split()[1][:-1],
    "base64 with other last bits": P256.split()[0] + " " + P256.split()[1].replace("v8=", "v9="),
    "base64 of the URL": ED25519.replace("/", "_"),
    "another type's blob": f"ssh-ed25519 {P256.split()[1]}",
    "another curve's blob": P256.replace("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", 1),
    "an unknown type": line("ssh-foo", b"ssh-foo", bytes(32)),
    "DSA": line("ssh-dss", b"ssh-dss", N, N, N, N),
    "a certificate": line("ssh-ed25519-cert-v01@openssh.com", b"ssh-ed25519-cert-v01@openssh.com", bytes(64)),
    "a short Ed25519 key": line("ssh-ed25519", b"ssh-ed25519", bytes(31)),
    "a field too many": line("ssh-ed25519", b"ssh-ed25519", bytes(32), b""),
    "bytes after the last field": line("ssh-ed25519", b"ssh-ed25519", bytes(32), tail=b"x"),
    "a field that is cut off": line("ssh-ed25519", b"ssh-ed25519", tail=(99).to_bytes(4, "big") + bytes(32)),
    "half a length": line("ssh-ed25519", b"ssh-ed25519", tail=b"\0\0"),
    "a type that is not ASCII": line("ssh-ed25519", b"ssh-ed2551\xb9", bytes(32)),
    "RSA of 1024 bits": f"ssh-rsa {SMALL_RSA}",
    "an even modulus": line("ssh-rsa", b"ssh-rsa", E, number(1 << 2047)),
    "an exponent of 1": line("ssh-rsa", b"ssh-rsa", number(1), N),
    "an even exponent": line("ssh-rsa", b"ssh-rsa", number(65536), N),
    "a long exponent": line("ssh-rsa", b"ssh-rsa", number((1 << 65) + 1), N),
    "a negative modulus": line("ssh-rsa", b"ssh-rsa", E, b"\x80" + bytes(255)),
    "a padded modulus": line("ssh-rsa", b"ssh-rsa", E, b"\0" + N),
    "an exponent of nothing": line("ssh-rsa", b"ssh-rsa", b"", N),
    "a compressed point": line("ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256", b"nistp256", b"\2" + bytes(64)),
    "a short point": line("ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256", b"nistp256", POINT[:-1]),
    "no point": line("ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256", b"nistp256", b""),
    "a curve that ends alike": line("ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256", b"sha2-nistp256", POINT),
    "a web application": line(
        "sk-ssh-ed25519@openssh.com", b"sk-ssh-ed25519@openssh.com", bytes(32), b"https://example.com"
    ),
    "no application": line("sk-ssh-ed25519@openssh.com", b"sk-ssh-ed25519@openssh.com", bytes(32)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_public_key_is_refused(name: str) -> None:
    """By a message that repeats nothing of the text: it may be a secret."""
    with pytest.raises(PublicKeyError) as caught:
        parse_public_key(BAD[name])
    words = [word for word in BAD[name].split() if len(word) > 24]
    assert not any(word in str(caught.value) for word in words if not word.endswith("openssh.com"))
