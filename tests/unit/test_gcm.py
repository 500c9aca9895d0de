# gcm.py: its viper loops against plain-Python twins, and the whole against answers of another implementation.

import random
from binascii import hexlify
from hashlib import sha256
from struct import pack, pack_into, unpack, unpack_from

import micropython
from cryptolib import aes
from fakenet import raises
from https_ota.trust.gcm import GCM, absorb, counters, erase, swapped, table, xor

KEY = bytes(range(32))

# Rows of: IV, length, SHA-256 of the plaintext (its first half), tag. The ciphertext is data(length). Made by
# CPython with the package cryptography:
#
#     gcm = AESGCM(bytes(range(32)))
#     data = bytes(i * 7 & 255 for i in range(n))
#     plain = bytes(a ^ b for a, b in zip(data, gcm.encrypt(iv, bytes(n), None)))
#     print(iv.hex(), n, sha256(plain).hexdigest()[:32], gcm.encrypt(iv, plain, None)[n:].hex())
ANSWERS = (
    ("000102030405060708090a0b", 0, "e3b0c44298fc1c149afbf4c8996fb924", "f4c2db1dc38805a37b92171c5d0a81cc"),
    ("000102030405060708090a0b", 1, "333e0a1e27815d0ceee55c473fe3dc93", "c350d70059324a9419c7780149825533"),
    ("000102030405060708090a0b", 16, "d06fdee366d708efc2a4d397fee7f1d8", "d5dec35202ebbd7a7bb07bd797029089"),
    ("000102030405060708090a0b", 70, "000621e4da3e34b8aa05e34cc34cbb81", "e902a7e0fa4cb19e100d735791fe7023"),
    ("000102030405060708090a0b", 1500, "e766c6d1dc229cd831710452687416d0", "a4a9421744748b487e063a40970f3e09"),
    ("000102030405060708090a0b0c0d0e0f", 0, "e3b0c44298fc1c149afbf4c8996fb924", "1fe22185668c52bcacfdff70749c67b9"),
    ("000102030405060708090a0b0c0d0e0f", 1, "cd0aa9856147b6c5b4ff2b7dfee5da20", "28702d98fc361d8bcea8906d6014b346"),
    ("000102030405060708090a0b0c0d0e0f", 15, "1bb1ed80e67014eb4c036acf3ad1b6ba", "52b91918e4589223c3649c705abfa681"),
    ("000102030405060708090a0b0c0d0e0f", 16, "ae7f7151a61f92258bb98bdc4ce2b9fc", "3efe39caa7efea65acdf93bbbe9476fc"),
    ("000102030405060708090a0b0c0d0e0f", 70, "f2734312fc654d27b2758ced8a7df46c", "02225d785f48e681c7629b3bb8689656"),
    ("000102030405060708090a0b0c0d0e0f", 1500, "1fdb75215f4548f27dfecfc694948f80", "4f89b88fe170dc57a969d22cbe99d87c"),
    ("0001020304050607", 70, "d843c25e11d4426840910914b7762f5d", "b50c1731cb62f2f2bb2de0484ed4635c"),
    ("000102030405060708090a0b0c0d0e0f10", 70, "5f96209b87dc17da8da710fcd584d5b5", "614ec6b5b094c4a59abbd099bb53be06"),
    ("000102030405060708090a0b0c0d0e0f101112131415161718191a1b", 70, "09292dfe1c658fc5a7f89085eddc460e", "62bf06c4b04d153568bb7fd4424a12cd"),
)  # fmt: skip
# The same of 1500 bytes, with IVs that were made by dividing in the field so that the first counter block is
# 00112233445566778899aabbffffffff, 16 times ff, and 0000000000000000ffffffffffffffdc.
WRAPS = (
    ("15316b6dc8251865bf54f98a24e2eb9e", 1500, "8b8806350ef3a8d86b6152a27b1bf09a", "91342ba4284a428ffb8313e3cfa03cb4"),
    ("1648929b5f941c336744d704903993da", 1500, "d0b650248ba1325b4c53adb353df2cae", "b9f27d17cb5bfe3156133c27978ae82b"),
    ("8dcbbbab673a84b9d95b139f061c2fa3", 1500, "a9b7913b501309b3be95ceefbe7fa743", "c7ff8ba8d462f20999e79f113940bd53"),
)  # fmt: skip


def unhex(text):
    return bytes(int(text[i : i + 2], 16) for i in range(0, len(text), 2))


def data(n):
    return bytearray(i * 7 & 255 for i in range(n))


def noise(n):
    return bytearray(random.getrandbits(8) for _ in range(n))


def number(block):
    return int.from_bytes(block, "big")


def block(x):
    return x.to_bytes(16, "big")


# -- the twins


def xor_twin(dst, d, src, s, n):
    for i in range(n):
        dst[d + i] ^= src[s + i]


def counters_twin(out, n, first):
    c = number(first[12:])
    for i in range(0, n, 16):
        out[i : i + 16] = bytes(first[:12]) + c.to_bytes(4, "big")
        c = (c + 1) & 0xFFFFFFFF
    first[12:] = c.to_bytes(4, "big")


def times(x, y):
    # SP 800-38D, section 6.3
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def table_twin(state, h):
    # Bit 3 of an entry's number stands for x**0, bit 0 for x**3; as a number x**i is bit 127 - i.
    for n in range(16):
        words = unpack(">IIII", block(times(n << 124, number(h))))
        pack_into("<IIII", state, 16 + 16 * n, *words)
    state[:16] = bytes(16)


def absorb_twin(state, pos, buf, at, n):
    h = number(pack(">IIII", *unpack_from("<IIII", state, 16 + 8 * 16)))
    for i in range(at, at + n):
        state[pos] ^= buf[i]
        pos += 1
        if pos == 16:
            state[:16] = block(times(number(state[:16]), h))
            pos = 0


def gcm_twin(key, iv, data, j0=None):
    """Plaintext and tag of a ciphertext."""
    encrypt = aes(key, 1).encrypt
    h = number(encrypt(bytes(16)))

    def ghash(data):
        y = 0
        for i in range(0, len(data), 16):
            part = data[i : i + 16]
            y = times(y ^ number(part + bytes(16 - len(part))), h)
        return times(y ^ len(data) * 8, h)

    if j0 is None:
        j0 = bytes(iv) + b"\0\0\0\1" if len(iv) == 12 else block(ghash(bytes(iv)))
    blocks = bytearray((len(data) + 31) // 16 * 16)
    counters_twin(blocks, len(blocks), bytearray(j0))
    stream = encrypt(blocks)
    plain = bytes(a ^ b for a, b in zip(data, stream[16:]))
    return plain, block(ghash(bytes(data)) ^ number(stream[:16]))


# -- xor


def check_xor(size, d, s, n, shift=0):
    src = memoryview(noise(size + shift))[shift:]
    got = noise(size)
    expected = bytearray(got)
    xor(got, d, src, s, n)
    xor_twin(expected, d, src, s, n)
    assert got == expected, (d, s, n, shift)


def test_xor_every_alignment_and_short_length():
    for d in range(5):
        for s in range(5):
            for n in range(40):
                check_xor(48, d, s, n)


def test_xor_random_pieces_of_shifted_buffers():
    for _ in range(300):
        d, s, n = random.randint(0, 99), random.randint(0, 99), random.randint(0, 300)
        check_xor(400, d, s, n, random.randint(0, 7))


def test_xor_of_all_ones_and_of_the_sign_bits():
    for fill in (b"\xff", b"\x80", b"\x7f"):
        for s in range(4):
            dst = bytearray(68)
            xor(dst, 0, fill * 72, s, 67)
            assert dst == fill * 67 + b"\0"


def test_erase():
    for n in (0, 1, 3, 16, 33):
        buf = noise(n)
        erase(buf)
        assert buf == bytes(n)
    key = noise(32).hex().encode()
    erase(key)
    assert key == bytes(64)


# -- counters


def check_counters(first, n):
    got, expected = bytearray(b"\xa5" * (n + 16)), bytearray(b"\xa5" * (n + 16))
    a, b = bytearray(first), bytearray(first)
    counters(got, n, a)
    counters_twin(expected, n, b)
    assert got == expected and a == b, (first, n)


def test_counters():
    for n in (0, 16, 32, 512):
        check_counters(noise(16), n)


def test_counters_carry_and_wrap_in_the_last_four_bytes_only():
    for low in (
        0,
        0xFE,
        0xFFFE,
        0xFFFFFE,
        0x3FFFFFFE,
        0x7FFFFFFE,
        0x80000000,
        0xFFFFFFFE,
        0xFFFFFFFF,
    ):
        check_counters(b"\xff" * 12 + pack(">I", low), 64)
    after = bytearray(b"\x11" * 12 + b"\xff" * 4)
    counters(bytearray(16), 16, after)
    assert after == b"\x11" * 12 + bytes(4)


# -- table and absorb


def states(h):
    got, expected = bytearray(272), noise(272)
    got[144:160] = swapped(h)
    table(got)
    table_twin(expected, h)
    assert got == expected, hexlify(h)
    return got, expected


def test_table_of_random_keys():
    for _ in range(20):
        states(bytes(noise(16)))


def test_table_of_single_bits():
    # x**124 and above are reduced; bit 31 of each word is the one that a 32-bit number has as its sign.
    states(bytes(16))
    states(b"\xff" * 16)
    for i in range(128):
        states(block(1 << i))


def check_absorb(h, value, pos, buf, at, n):
    got, expected = states(h)
    got[:16] = swapped(value)
    expected[:16] = value
    absorb(got, pos, buf, at, n)
    absorb_twin(expected, pos, buf, at, n)
    expected[:16] = swapped(expected)
    assert got == expected, (hexlify(h), hexlify(value), pos, at, n)


def test_absorb_single_bits():
    for i in range(128):
        check_absorb(bytes(noise(16)), bytes(16), 0, block(1 << i), 0, 16)
        check_absorb(block(1 << i), bytes(16), 0, bytes(noise(16)), 0, 16)


def test_absorb_edges():
    edges = [bytes(16), b"\xff" * 16, b"\x80\0\0\0" * 4, b"\0\0\0\1" * 4, b"\x7f\xff\xff\xff" * 4]
    for h in edges:
        for value in edges:
            for buf in edges:
                check_absorb(h, value, 0, buf, 0, 16)


def test_absorb_random_pieces_at_every_alignment():
    for pos in range(16):
        for at in range(5):
            buf = noise(100)
            check_absorb(bytes(noise(16)), bytes(noise(16)), pos, buf, at, random.randint(0, 90))


def test_absorb_nothing():
    check_absorb(bytes(noise(16)), bytes(noise(16)), 5, b"", 0, 0)


# -- the class


def decrypted(iv, data, cuts=(), key=KEY):
    gcm = GCM(key, iv)
    view = memoryview(data)
    last = 0
    for cut in list(cuts) + [len(data)]:
        gcm.decrypt(view[last:cut], cut - last)
        last = cut
    tag = gcm.tag()
    gcm.wipe()
    return bytes(data), tag


def check_answers(rows):
    for iv, n, digest, tag in rows:
        plain, got = decrypted(unhex(iv), data(n))
        assert hexlify(got).decode() == tag, (iv, n)
        assert hexlify(sha256(plain).digest()[:16]).decode() == digest, (iv, n)


def test_known_answers():
    check_answers(ANSWERS)


def test_known_answers_whose_counter_wraps():
    check_answers(WRAPS)


def test_counter_wraps_after_any_block():
    text = bytes(noise(600))
    for back in range(1, 36):
        j0 = b"\x5a" * 8 + b"\xff\xff\xff\xff" + pack(">I", (0 - back) & 0xFFFFFFFF)
        gcm = GCM(KEY, bytes(16))
        gcm._start(j0)
        buf = bytearray(text)
        gcm.decrypt(buf, 600)
        assert (bytes(buf), gcm.tag()) == gcm_twin(KEY, None, text, j0), back


def test_random_keys_ivs_and_lengths():
    for _ in range(10):
        key = noise(random.choice((16, 32)))
        iv = bytes(noise(random.randint(1, 40)))
        text = noise(random.randint(0, 1100))
        assert decrypted(iv, bytearray(text), (), key) == gcm_twin(key, iv, text)


def test_every_length_in_every_two_pieces():
    iv = bytes(range(16))
    text = data(70)
    for n in range(71):
        expected = gcm_twin(KEY, iv, text[:n])
        for cut in range(n + 1):
            assert decrypted(iv, text[:n], (cut,)) == expected, (n, cut)


def test_byte_by_byte_and_in_random_pieces():
    iv = bytes(range(16))
    text = noise(1200)
    expected = gcm_twin(KEY, iv, text)
    assert decrypted(iv, bytearray(text), range(1, 1200)) == expected
    for most in (17, 100, 600):
        cuts = [0]
        while cuts[-1] < 1200 - most:
            cuts.append(cuts[-1] + random.randint(0, most))
        assert decrypted(iv, bytearray(text), cuts) == expected, cuts


def test_buffers_larger_than_the_piece_keep_their_rest():
    buf = bytearray(b"\x77" * 80)
    gcm = GCM(KEY, bytes(16))
    gcm.decrypt(buf, 33)
    assert buf[33:] == b"\x77" * 47 and buf[:33] != b"\x77" * 33


def test_replay_is_decrypt_and_leaves_the_buffer():
    iv = bytes(range(16))
    text = noise(1500)
    expected = gcm_twin(KEY, iv, text)
    for n in (0, 1, 15, 16, 17, 511, 512, 513, 1024, 1499, 1500):
        gcm = GCM(KEY, iv)
        plain = bytearray(expected[0][:n])
        gcm.replay(plain, n // 3)
        rest = plain[n // 3 :]
        gcm.replay(rest, len(rest))
        assert plain == expected[0][:n] and rest == plain[n // 3 :], n
        buf = text[n:]
        gcm.decrypt(buf, len(buf))
        assert buf == expected[0][n:], n
        assert gcm.tag() == expected[1], n


def test_each_bit_counts():
    iv = bytes(range(16))
    text = noise(70)
    _, tag = decrypted(iv, bytearray(text))
    for _ in range(60):
        other = bytearray(text)
        other[random.randint(0, 69)] ^= 1 << random.randint(0, 7)
        assert decrypted(iv, other)[1] != tag


def test_allocates_nothing():
    buf = bytearray(4096)
    part = memoryview(bytearray(64))[1:40]
    gcm = GCM(KEY, bytes(16))
    micropython.heap_lock()
    try:
        gcm.decrypt(buf, 4096)
        gcm.decrypt(part, 39)
        gcm.decrypt(buf, 1000)
        gcm.replay(buf, 4096)
    finally:
        micropython.heap_unlock()
    assert gcm._length == 4096 + 39 + 1000 + 4096


def test_wipe_leaves_no_secret_and_no_use():
    gcm = GCM(KEY, bytes(16))
    gcm.decrypt(bytearray(100), 100)
    held = [v for v in gcm.__dict__.values() if isinstance(v, bytearray)]
    assert len(held) == 4 and all(any(buf) for buf in held)
    gcm.wipe()
    assert not any(any(buf) for buf in held)
    raises(TypeError, gcm.decrypt, bytearray(1), 1)
    gcm.wipe()


def test_refuses_what_viper_would_not_check():
    gcm = GCM(KEY, bytes(16))
    for n in (-1, 17):
        raises(ValueError, gcm.decrypt, bytearray(16), n)
        raises(ValueError, gcm.replay, bytearray(16), n)
    raises(ValueError, GCM, KEY, b"")
    raises(ValueError, GCM, KEY[:31], bytes(16))
