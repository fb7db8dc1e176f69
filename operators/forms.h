// All forms of a matrix by name, so that functions can be made for each with its constants, and looked up in a table.
#pragma once

#include "types.h"

#define FORMS(each)                                                                                                    \
    each(own_4bit_16, own_form(4, 16, false)) each(own_4bit_32, own_form(4, 32, false))                                \
        each(own_8bit_16, own_form(8, 16, false)) each(own_8bit_32, own_form(8, 32, false))                            \
            each(own_4bit_16_offset, own_form(4, 16, true)) each(own_4bit_32_offset, own_form(4, 32, true))            \
                each(own_8bit_16_offset, own_form(8, 16, true)) each(own_8bit_32_offset, own_form(8, 32, true))        \
                    each(q4_0, form_of(Q4_0)) each(q4_1, form_of(Q4_1)) each(q5_0, form_of(Q5_0))                      \
                        each(q5_1, form_of(Q5_1)) each(q8_0, form_of(Q8_0)) each(q4_k, form_of(Q4_K))                  \
                            each(q5_k, form_of(Q5_K)) each(q6_k, form_of(Q6_K)) each(iq4_nl, form_of(IQ4_NL))          \
                                each(iq4_xs, form_of(IQ4_XS))

#define NUMBER(name, form) FORM_##name,
enum { FORMS(NUMBER) };

static inline int index_of(Form form) {
    switch (form.type) {
    case Q4_0:
        return FORM_q4_0;
    case Q4_1:
        return FORM_q4_1;
    case Q5_0:
        return FORM_q5_0;
    case Q5_1:
        return FORM_q5_1;
    case Q8_0:
        return FORM_q8_0;
    case Q4_K:
        return FORM_q4_k;
    case Q5_K:
        return FORM_q5_k;
    case Q6_K:
        return FORM_q6_k;
    case IQ4_NL:
        return FORM_iq4_nl;
    case IQ4_XS:
        return FORM_iq4_xs;
    default:
        break;
    }
    return FORM_own_4bit_16 + (form.offsets ? 4 : 0) + (form.bits == 8 ? 2 : 0) + (form.block == 32 ? 1 : 0);
}
