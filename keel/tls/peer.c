/* SPDX-License-Identifier: MIT */
#include <keel/peer.h>

#include <errno.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum {
    TAG_BYTES = 4,
    NONCE_BYTES = 32,
    MAC_BYTES = 32,
    ROLE_BYTES = 16,
};

/* As they are sent: bytes alone, without padding. */
struct challenge {
    char tag[TAG_BYTES];
    uint8_t nonce[NONCE_BYTES];
};
struct answer {
    char tag[TAG_BYTES];
    uint8_t nonce[NONCE_BYTES];
    uint8_t mac[MAC_BYTES];
};
struct verdict {
    char tag[TAG_BYTES];
    uint8_t mac[MAC_BYTES];
};
_Static_assert(sizeof(struct challenge) == 36, "as drawn");
_Static_assert(sizeof(struct answer) == 68, "as drawn");
_Static_assert(sizeof(struct verdict) == 36, "as drawn");

static const char tag_challenge[] = "KPC1", tag_answer[] = "KPA1",
                  tag_welcome[] = "KPW1", tag_refused[] = "KPN1";

static bool is(const char tag[TAG_BYTES], const char *what)
{
    return memcmp(tag, what, TAG_BYTES) == 0;
}

static int key_check(const struct keel_peer_key *key)
{
    return key->secret_size >= KEEL_PEER_SECRET_LEAST &&
                   key->secret_size <= KEEL_PEER_SECRET_MOST &&
                   key->context_size <= KEEL_PEER_CONTEXT_MOST
               ? 0
               : -EINVAL;
}

/* All before the context has one length, so no two inputs are the same bytes. */
static int mac(const struct keel_peer_key *key, const char *role,
               const uint8_t s[NONCE_BYTES], const uint8_t c[NONCE_BYTES],
               uint8_t ret[MAC_BYTES])
{
    struct {
        char role[ROLE_BYTES];
        uint8_t s[NONCE_BYTES], c[NONCE_BYTES];
        uint8_t context[KEEL_PEER_CONTEXT_MOST];
    } in = {0};
    unsigned size = MAC_BYTES;

    memcpy(in.role, role, strlen(role));
    memcpy(in.s, s, NONCE_BYTES);
    memcpy(in.c, c, NONCE_BYTES);
    if (key->context_size)
        memcpy(in.context, key->context, key->context_size);
    return HMAC(EVP_sha256(), key->secret, (int)key->secret_size,
                (const unsigned char *)&in,
                offsetof(__typeof__(in), context) + key->context_size, ret,
                &size)
               ? 0
               : -ENOMEM;
}

static int proves(const struct keel_peer_key *key, const char *role,
                  const uint8_t s[NONCE_BYTES], const uint8_t c[NONCE_BYTES],
                  const uint8_t shown[MAC_BYTES])
{
    uint8_t right[MAC_BYTES];
    int rc = mac(key, role, s, c, right);

    if (rc == 0 && !keel_same(right, shown, MAC_BYTES))
        rc = -EACCES;
    /* What would have been right is nobody's to find in old memory. */
    keel_wipe(right, sizeof(right));
    return rc;
}

/* ---- who accepted ---- */

static int welcome(struct keel_stream *s, const struct keel_peer_key *key,
                   const struct challenge *asked, const struct answer *a,
                   keel_ns deadline)
{
    struct verdict v;
    int rc;

    memcpy(v.tag, tag_welcome, TAG_BYTES);
    rc = mac(key, "welcome", asked->nonce, a->nonce, v.mac);
    return rc < 0 ? rc : keel_stream_write(s, &v, sizeof(v), deadline);
}

static void refuse(struct keel_stream *s)
{
    struct verdict v = {{0}, {0}};

    memcpy(v.tag, tag_refused, TAG_BYTES);
    (void)keel_stream_write(s, &v, sizeof(v), KEEL_NOW);
}

int keel_peer_challenge(struct keel_stream *s, const struct keel_peer_key *key,
                        keel_ns deadline)
{
    struct challenge asked;
    struct answer a;
    int rc = key_check(key);

    if (rc < 0)
        return rc;
    memcpy(asked.tag, tag_challenge, TAG_BYTES);
    keel_random(asked.nonce, NONCE_BYTES);
    rc = keel_stream_write(s, &asked, sizeof(asked), deadline);
    /* The tag first: of another protocol there may never be 68 bytes. */
    if (rc == 0)
        rc = keel_stream_read_all(s, a.tag, TAG_BYTES, NULL, deadline);
    if (rc == 0 && !is(a.tag, tag_answer))
        rc = -EPROTO;
    if (rc == 0)
        rc = keel_stream_read_all(s, a.nonce, NONCE_BYTES + MAC_BYTES, NULL,
                                  deadline);
    if (rc == 0)
        rc = proves(key, "answer", asked.nonce, a.nonce, a.mac);
    if (rc == -EACCES)
        refuse(s);
    return rc < 0 ? rc : welcome(s, key, &asked, &a, deadline);
}

/* ---- who dialled ---- */

static int answer(struct keel_stream *s, const struct keel_peer_key *key,
                  const struct challenge *asked, struct answer *a,
                  keel_ns deadline)
{
    int rc;

    memcpy(a->tag, tag_answer, TAG_BYTES);
    keel_random(a->nonce, NONCE_BYTES);
    rc = mac(key, "answer", asked->nonce, a->nonce, a->mac);
    return rc < 0 ? rc : keel_stream_write(s, a, sizeof(*a), deadline);
}

int keel_peer_answer(struct keel_stream *s, const struct keel_peer_key *key,
                     keel_ns deadline)
{
    struct challenge asked;
    struct answer a;
    struct verdict v;
    int rc = key_check(key);

    if (rc == 0)
        rc = keel_stream_read_all(s, asked.tag, TAG_BYTES, NULL, deadline);
    if (rc == 0 && !is(asked.tag, tag_challenge))
        rc = -EPROTO;
    if (rc == 0)
        rc = keel_stream_read_all(s, asked.nonce, NONCE_BYTES, NULL, deadline);
    if (rc == 0)
        rc = answer(s, key, &asked, &a, deadline);
    if (rc == 0)
        rc = keel_stream_read_all(s, v.tag, TAG_BYTES, NULL, deadline);
    if (rc == 0 && is(v.tag, tag_refused))
        rc = -EACCES;
    if (rc == 0 && !is(v.tag, tag_welcome))
        rc = -EPROTO;
    if (rc == 0)
        rc = keel_stream_read_all(s, v.mac, MAC_BYTES, NULL, deadline);
    return rc < 0 ? rc : proves(key, "welcome", asked.nonce, a.nonce, v.mac);
}
