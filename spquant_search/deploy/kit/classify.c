/* An example to copy from: reads the SPQ_FRAMES frames of one sample from standard input, and prints its class:
 *
 *     cc -I. examples/classify.c model.c -o classify */
#include <stdio.h>

#include "model.h"

static uint8_t frame[SPQ_FRAME_BYTES]; /* [row][column][channel] */

int main(void)
{
    uint32_t t;
    spq_reset();
    for (t = 0; t < SPQ_TIME_STEPS; ++t) {
        if (t < SPQ_FRAMES && fread(frame, 1, sizeof frame, stdin) != sizeof frame) {
            fprintf(stderr, "frame %lu of %lu is missing\n", (unsigned long)t + 1, (unsigned long)SPQ_FRAMES);
            return 1;
        }
        spq_step(frame);
    }
    printf("%d@FORMAT@\n", spq_class()@NAME@);
    return 0;
}
