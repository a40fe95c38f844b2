/* SPDX-License-Identifier: MIT */
/* dladdr knows what is exported for other libraries, which of a program is next
 * to nothing; the rest is in the symbol table of its file, unless that was
 * stripped.  A file is mapped when it is first asked for, and stays so. */
#include "symbol.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MOST = 32 };

/* The function symbols of a file; count 0: it tells none. */
struct table {
    const void *base; /* where the file is loaded */
    const ElfW(Sym) * symbols;
    size_t count;
    const char *names;
    size_t names_size;
    /* From the first to the last of keel's public functions.  The linker puts
     * the members of an archive side by side, so what lies between them is
     * keel's own. */
    uintptr_t keel_low, keel_high;
};

/* Under `lock`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct table tables[FILES_MOST];
static size_t table_count;

/* The whole file; NULL: none is to be had. */
static const char *map_file(const char *path, size_t *ret_size)
{
    struct stat st;
    void *at = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && st.st_size > 0)
        at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (at == MAP_FAILED)
        return NULL;
    *ret_size = (size_t)st.st_size;
    return at;
}

static bool lies_in(uint64_t at, uint64_t size, size_t all)
{
    return at <= all && size <= all - at;
}

/* The file may be another than the one that was loaded, so nothing in it is
 * believed. */
static void read_symbols(struct table *t, const char *file, size_t size)
{
    const ElfW(Ehdr) *head = (const void *)file;
    const ElfW(Shdr) * sections;

    if (size < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        head->e_shentsize != sizeof *sections || head->e_shoff % 8 != 0 ||
        !lies_in(head->e_shoff, head->e_shnum * sizeof *sections, size))
        return;
    sections = (const void *)(file + head->e_shoff);
    for (unsigned i = 0; i < head->e_shnum; i++) {
        const ElfW(Shdr) *s = &sections[i], *names;

        if (s->sh_type != SHT_SYMTAB || s->sh_link >= head->e_shnum ||
            s->sh_offset % 8 != 0 || !lies_in(s->sh_offset, s->sh_size, size))
            continue;
        names = &sections[s->sh_link];
        if (!lies_in(names->sh_offset, names->sh_size, size))
            continue;
        t->symbols = (const void *)(file + s->sh_offset);
        t->count = s->sh_size / sizeof *t->symbols;
        t->names = file + names->sh_offset;
        t->names_size = names->sh_size;
    }
}

/* Inline functions of the headers are local where they became functions. */
static bool is_public_keel(const struct table *t, const ElfW(Sym) * s)
{
    return ELF64_ST_TYPE(s->st_info) == STT_FUNC &&
           ELF64_ST_BIND(s->st_info) == STB_GLOBAL && s->st_shndx &&
           lies_in(s->st_name, sizeof "keel_", t->names_size) &&
           strncmp(t->names + s->st_name, "keel_", 5) == 0;
}

static void find_keel(struct table *t)
{
    t->keel_low = UINTPTR_MAX;
    for (size_t i = 0; i < t->count; i++) {
        const ElfW(Sym) *s = &t->symbols[i];

        if (!is_public_keel(t, s))
            continue;
        if (s->st_value < t->keel_low)
            t->keel_low = s->st_value;
        if (s->st_value + s->st_size > t->keel_high)
            t->keel_high = s->st_value + s->st_size;
    }
}

/* Under the lock; NULL: too many files. */
static const struct table *table_of(const Dl_info *info,
                                    const struct link_map *map)
{
    struct table *t;
    const char *file;
    size_t size = 0;

    for (size_t i = 0; i < table_count; i++)
        if (tables[i].base == info->dli_fbase)
            return &tables[i];
    if (table_count == FILES_MOST)
        return NULL;
    t = &tables[table_count++];
    t->base = info->dli_fbase;
    /* The program has no name there. */
    file = map_file(map->l_name[0] ? info->dli_fname : "/proc/self/exe", &size);
    if (file)
        read_symbols(t, file, size);
    find_keel(t);
    return t;
}

static const ElfW(Sym) * search(const struct table *t, uintptr_t at)
{
    for (size_t i = 0; i < t->count; i++) {
        const ElfW(Sym) *s = &t->symbols[i];

        if (ELF64_ST_TYPE(s->st_info) == STT_FUNC && s->st_shndx &&
            at - s->st_value < s->st_size && s->st_name < t->names_size)
            return s;
    }
    return NULL;
}

bool symbol_find(uintptr_t pc, struct symbol *ret)
{
    const struct table *t;
    const ElfW(Sym) *s = NULL;
    const char *slash;
    struct link_map *map = NULL;
    Dl_info info;

    if (!dladdr1((void *)pc, &info, (void **)&map, RTLD_DL_LINKMAP) ||
        !info.dli_fname || !map)
        return false;
    slash = strrchr(info.dli_fname, '/');
    (void)snprintf(ret->file, sizeof ret->file, "%s",
                   slash ? slash + 1 : info.dli_fname);
    ret->at = pc - map->l_addr;
    ret->after = 0;
    ret->in_keel = false;
    ret->name[0] = '\0';
    pthread_mutex_lock(&lock);
    t = table_of(&info, map);
    if (t) {
        s = search(t, ret->at);
        ret->in_keel = ret->at >= t->keel_low && ret->at < t->keel_high;
    }
    if (s) {
        (void)snprintf(ret->name, sizeof ret->name, "%.*s",
                       (int)(t->names_size - s->st_name),
                       t->names + s->st_name);
        ret->after = ret->at - s->st_value;
    } else if (info.dli_sname) {
        (void)snprintf(ret->name, sizeof ret->name, "%s", info.dli_sname);
        ret->after = pc - (uintptr_t)info.dli_saddr;
    }
    pthread_mutex_unlock(&lock);
    return true;
}
