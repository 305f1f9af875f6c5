/* Shows the network the sample of sample.h, and says whether it answers as expected:
 *
 *     cc main.c model.c && ./a.out
 *
 * It needs nothing but printf, so that on a board, too, it is a test of compiler and memory. */
#include <stdio.h>

#include "sample.h"

int main(void)
{
    uint32_t t, wrong = 0;
    int k;
    spq_reset();
    for (t = 0; t < SPQ_TIME_STEPS; ++t)
        spq_step(spq_sample[t < SPQ_FRAMES ? t : 0]);
    for (k = 0; k < SPQ_CLASSES; ++k)
        wrong += spq_logits()[k] != spq_sample_logits[k];
    if (spq_class() != SPQ_SAMPLE_CLASS)
        printf("class %d, where %d is expected\n", spq_class(), SPQ_SAMPLE_CLASS);
    else if (wrong)
        printf("class %d, as expected, but %lu of %d logits are wrong\n", spq_class(), (unsigned long)wrong, SPQ_CLASSES);
    else
        printf("class %d, as expected@FORMAT@\n", spq_class()@NAME@);
    return wrong != 0;
}
