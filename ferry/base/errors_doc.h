/* SPDX-License-Identifier: MIT */
/* The text of docs/errors.md, for its generator and the test that compares. */
#ifndef FERRY_ERRORS_DOC_H
#define FERRY_ERRORS_DOC_H

#include <stdio.h>

/* 0, or -1 when `to` could not be written. */
int errors_doc_print(FILE *to);

#endif
