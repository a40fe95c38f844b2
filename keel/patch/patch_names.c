/* SPDX-License-Identifier: MIT */
/* Names: libc's resolver waits by calls that nobody can stand in for, so it
 * goes to a thread of keel's pool.  Addresses are looked up on the spot. */
#include <string.h>

#include "patch_inside.h"

/* A call, for the thread; errno and h_errno are the thread's, and are brought
 * back. */
struct lookup {
    int (*call)(struct lookup *l);
    union {
        struct {
            const char *host, *service;
            const struct addrinfo *hints;
            struct addrinfo **ret;
        } names;
        struct {
            const struct sockaddr *address;
            socklen_t size;
            char *host, *service;
            socklen_t host_size, service_size;
            int flags;
        } address;
        struct {
            const void *key;
            socklen_t size; /* of an address */
            int family;     /* 0: gethostbyname */
            struct hostent *ret, **result;
            char *buffer;
            size_t buffer_size;
            int *error;
        } host;
    };
    int rc, error, h_error;
};

static int run(void *arg)
{
    struct lookup *l = arg;

    errno = 0;
    l->rc = l->call(l);
    l->error = errno;
    l->h_error = h_errno;
    return 0;
}

/* 0; -ECANCELED, -EAGAIN (no thread): the call was not made. */
static int look_up(const struct patched *k, struct lookup *l)
{
    int before = errno;
    int rc = k->allowed();

    if (rc == 0)
        rc = k->blocking(run, l);
    errno = before;
    if (rc == 0 && l->error)
        errno = l->error;
    return rc;
}

/* ---- getaddrinfo, getnameinfo ---------------------------------------------------------- */

static int call_names(struct lookup *l)
{
    return real.getaddrinfo(l->names.host, l->names.service, l->names.hints,
                            l->names.ret);
}

/* The call's own way of saying why it was not made. */
static int not_made(int rc)
{
    if (rc == -EAGAIN)
        return EAI_AGAIN;
    errno = -rc;
    return EAI_SYSTEM;
}

PATCHED(int, getaddrinfo, const char *host, const char *service,
        const struct addrinfo *hints, struct addrinfo **ret)
{
    const struct patched *k = here();
    struct addrinfo numeric = hints ? *hints : (struct addrinfo){.ai_flags = 0};
    struct lookup l = {.call = call_names,
                       .names = {host, service, hints, ret}};
    int rc;

    if (!k)
        return LATE(getaddrinfo)(host, service, hints, ret);
    if (!hints) /* what libc takes for none */
        numeric.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG;
    numeric.ai_flags |= AI_NUMERICHOST;
    if (!host || real.getaddrinfo(host, NULL, &numeric, ret) == 0) {
        if (host)
            freeaddrinfo(*ret);
        return real.getaddrinfo(host, service, hints, ret);
    }
    rc = look_up(k, &l);
    return rc < 0 ? not_made(rc) : l.rc;
}

static int call_address(struct lookup *l)
{
    return real.getnameinfo(l->address.address, l->address.size,
                            l->address.host, l->address.host_size,
                            l->address.service, l->address.service_size,
                            l->address.flags);
}

PATCHED(int, getnameinfo, const struct sockaddr *address, socklen_t size,
        char *host, socklen_t host_size, char *service, socklen_t service_size,
        int flags)
{
    const struct patched *k = here();
    struct lookup l = {.call = call_address,
                       .address = {address, size, host, service, host_size,
                                   service_size, flags}};
    int rc;

    if (!k || (flags & NI_NUMERICHOST))
        return LATE(getnameinfo)(address, size, host, host_size, service,
                                 service_size, flags);
    rc = look_up(k, &l);
    return rc < 0 ? not_made(rc) : l.rc;
}

/* ---- gethostbyname and its kin ----------------------------------------------------------- */

static int call_host(struct lookup *l)
{
    if (l->host.size)
        return real.gethostbyaddr_r(
            l->host.key, l->host.size, l->host.family, l->host.ret,
            l->host.buffer, l->host.buffer_size, l->host.result, l->host.error);
    if (l->host.family)
        return real.gethostbyname2_r(l->host.key, l->host.family, l->host.ret,
                                     l->host.buffer, l->host.buffer_size,
                                     l->host.result, l->host.error);
    return real.gethostbyname_r(l->host.key, l->host.ret, l->host.buffer,
                                l->host.buffer_size, l->host.result,
                                l->host.error);
}

static int host_in_thread(const struct patched *k, struct lookup *l)
{
    int rc;

    l->call = call_host;
    rc = look_up(k, l);
    if (rc == 0)
        return l->rc;
    *l->host.result = NULL;
    *l->host.error = TRY_AGAIN;
    return -rc;
}

PATCHED(int, gethostbyname_r, const char *name, struct hostent *ret,
        char *buffer, size_t size, struct hostent **result, int *error)
{
    const struct patched *k = here();
    struct lookup l = {.host = {name, 0, 0, ret, result, buffer, size, error}};

    if (!k)
        return LATE(gethostbyname_r)(name, ret, buffer, size, result, error);
    return host_in_thread(k, &l);
}

PATCHED(int, gethostbyname2_r, const char *name, int family,
        struct hostent *ret, char *buffer, size_t size, struct hostent **result,
        int *error)
{
    const struct patched *k = here();
    struct lookup l = {
        .host = {name, 0, family, ret, result, buffer, size, error}};

    if (!k || !family)
        return LATE(gethostbyname2_r)(name, family, ret, buffer, size, result,
                                      error);
    return host_in_thread(k, &l);
}

PATCHED(int, gethostbyaddr_r, const void *address, socklen_t address_size,
        int family, struct hostent *ret, char *buffer, size_t size,
        struct hostent **result, int *error)
{
    const struct patched *k = here();
    struct lookup l = {.host = {address, address_size, family, ret, result,
                                buffer, size, error}};

    if (!k || !address_size)
        return LATE(gethostbyaddr_r)(address, address_size, family, ret, buffer,
                                     size, result, error);
    return host_in_thread(k, &l);
}

/* Those without _r answer in memory of libc's own, the process's, which the
 * next call of any coroutine overwrites, as that of any thread always did. */
enum { BY_NAME, BY_NAME_2, BY_ADDRESS };
struct shared_host {
    int kind, family;
    const void *key;
    socklen_t size;
    struct hostent *result;
    int error, h_error;
};

static int run_shared(void *arg)
{
    struct shared_host *s = arg;

    errno = 0;
    switch (s->kind) {
    case BY_NAME:
        s->result = real.gethostbyname(s->key);
        break;
    case BY_NAME_2:
        s->result = real.gethostbyname2(s->key, s->family);
        break;
    default:
        s->result = real.gethostbyaddr(s->key, s->size, s->family);
    }
    s->error = errno;
    s->h_error = h_errno;
    return 0;
}

static struct hostent *shared_in_thread(const struct patched *k,
                                        struct shared_host *s)
{
    int before = errno;
    int rc = k->allowed();

    if (rc == 0)
        rc = k->blocking(run_shared, s);
    if (rc < 0) {
        s->h_error = rc == -EAGAIN ? TRY_AGAIN : NETDB_INTERNAL;
        s->error = -rc;
    }
    errno = s->error ? s->error : before;
    if (!s->result)
        h_errno = s->h_error;
    return s->result;
}

PATCHED(struct hostent *, gethostbyname, const char *name)
{
    const struct patched *k = here();
    struct shared_host s = {.kind = BY_NAME, .key = name};

    return k ? shared_in_thread(k, &s) : LATE(gethostbyname)(name);
}

PATCHED(struct hostent *, gethostbyname2, const char *name, int family)
{
    const struct patched *k = here();
    struct shared_host s = {.kind = BY_NAME_2, .key = name, .family = family};

    return k ? shared_in_thread(k, &s) : LATE(gethostbyname2)(name, family);
}

PATCHED(struct hostent *, gethostbyaddr, const void *address, socklen_t size,
        int family)
{
    const struct patched *k = here();
    struct shared_host s = {
        .kind = BY_ADDRESS, .key = address, .size = size, .family = family};

    return k ? shared_in_thread(k, &s)
             : LATE(gethostbyaddr)(address, size, family);
}
