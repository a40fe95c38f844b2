/* SPDX-License-Identifier: MIT */
/* errors_doc > docs/errors.md */
#include <stdio.h>

#include "base/errors_doc.h"

int main(void)
{
    return errors_doc_print(stdout) < 0 || fflush(stdout) != 0;
}
