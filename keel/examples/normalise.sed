# SPDX-License-Identifier: MIT
# What differs from run to run in dumps and reports.
/^      #/d
s/, at [^ ]*+0x.*//
s/0x[0-9a-f]*/0x*/g
s/[0-9][0-9]*\.[0-9][0-9]* s/* s/g
s/(uring)\|(epoll)/(*)/
s/^\(  '[^']*'\) \[[0-9]*\] .*/\1 [*] */
