/* SPDX-License-Identifier: MIT */
/* Inside wire: the parser with a limit of its own for the number of values. */
#ifndef FERRY_WIRE_JSON_H
#define FERRY_WIRE_JSON_H

#include "wire/frame.h"

int wire_json_parse_most(const char *text, size_t size, size_t values_max,
                         json_t **ret, struct problem *why);

#endif
