/* SPDX-License-Identifier: MIT */
/* Addresses: what kind they are, which rule they fall under, and those of this
 * machine.
 *
 *     cc addresses.c $(pkg-config --cflags --libs keel) && ./a.out
 *     ./a.out -v      all interfaces of this machine
 *
 * The rule for 10.0.0.0/8 also holds for ::ffff:10.1.2.3, as a socket for both
 * families writes a v4 address. */
#include <stdio.h>

#include <keel/address.h>

static void tell(const char *text)
{
    char printed[KEEL_ADDRESS_BYTES];
    struct keel_address a;

    if (keel_ip_parse(text, &a) < 0) {
        printf("%s is no address\n", text);
        return;
    }
    keel_ip_print(&a, printed);
    printf("%s is %s\n", printed,
           keel_address_class_name(keel_address_class(&a)));
}

static void rule(const char *text, const char *address)
{
    struct keel_prefix p;
    struct keel_address a;

    if (keel_prefix_parse(text, &p) < 0 || keel_ip_parse(address, &a) < 0)
        printf("%s: a rule has no bits behind its prefix\n", text);
    else
        printf("%s %s %s\n", text,
               keel_prefix_contains(&p, &a) ? "holds for" : "leaves out",
               address);
}

static void show(const struct keel_interface *row)
{
    char text[KEEL_ADDRESS_BYTES], mac[KEEL_MAC_TEXT_BYTES] = "-";

    if (row->has_mac)
        keel_mac_print(row->mac, mac);
    printf("%s, MAC %s\n", row->name, mac);
    for (size_t i = 0; i < row->address_count; i++) {
        struct keel_address mask;

        keel_ip_print(&row->addresses[i].address, text);
        printf("  address %s", text);
        keel_mask(row->addresses[i].address.family, row->addresses[i].bits,
                  &mask);
        keel_ip_print(&mask, text);
        printf(", mask %s\n", text);
    }
    keel_ip_print(&row->gateway4, text);
    printf("  gateway %s", text);
    keel_ip_print(&row->gateway6, text);
    printf(", %s\n", text);
}

int main(int argc, char **argv)
{
    static const char *const texts[] = {
        "127.0.0.1",
        "192.168.0.10",
        "2606:4700:0:0:0:0:0:1111",
        "::FFFF:127.0.0.1",
        "FE80::1",
        "ff02::fb",
        "1.2.3",
    };
    keel_auto(interfaces) struct keel_interfaces *all = NULL;
    const struct keel_interface *loopback = NULL;

    (void)argv;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        tell(texts[i]);
    rule("10.0.0.0/8", "10.1.2.3");
    rule("10.0.0.0/255.255.0.0", "10.1.2.3");
    rule("10.0.0.0/8", "::ffff:10.1.2.3");
    rule("10.1.2.3/8", "10.1.2.3");

    if (keel_interfaces_new(&all) < 0)
        return 1;
    for (size_t i = 0; i < all->count; i++) {
        if (argc > 1)
            show(&all->rows[i]);
        if (all->rows[i].loopback)
            loopback = &all->rows[i];
    }
    printf("one of the interfaces is the machine itself: %s\n",
           loopback ? "yes" : "no");
    return 0;
}
