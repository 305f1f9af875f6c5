/* Runs the samples of frames.h and writes for each the ticks that it took and its logits; then, where SPQ_LAYERS says how
 * many calls a step has, the ticks of each call. A tick of the timer at 0x40000000 is 40 instructions under qemu's
 * -icount shift=0. The same file runs on the host, under callgrind, without a timer. */
#include <stdint.h>
#include "model.h"
#include "frames.h"

#ifdef HOST
#include <stdio.h>
static void words(const char *text) { fputs(text, stdout); }
static uint32_t now(void) { return 0; }
static void begin(void) {}
static void end(void) {}
#else
static void call_host(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
static void words(const char *text) { call_host(4, text); }
#define TIMER ((volatile uint32_t *)0x40000000)
static uint32_t now(void) { return 0u - TIMER[1]; }
static void begin(void)
{
    TIMER[2] = 0xffffffff;
    TIMER[1] = 0xffffffff;
    TIMER[0] = 1;
}
static void end(void) { call_host(0x18, (void *)0x20026); }
#endif

static void number(uint32_t value)
{
    char text[13];
    int at = 12;
    text[at] = 0;
    text[--at] = ' ';
    do {
        text[--at] = (char)('0' + value % 10u);
    } while ((value /= 10u) != 0 && at > 0);
    words(text + at);
}

#ifdef SPQ_LAYERS
uint32_t layer_ticks[SPQ_LAYERS], layer_began;
void layer_starts(void) { layer_began = now(); }
void layer_ends(int layer) { layer_ticks[layer] += now() - layer_began; }
#endif

int main(void)
{
    int sample, t, k;
    begin();
    for (sample = 0; sample < SAMPLES; ++sample) {
        const uint32_t before = now();
        spq_reset();
        for (t = 0; t < SPQ_TIME_STEPS; ++t)
            spq_step(frames[sample][SPQ_FRAMES > 1 ? t : 0]);
        words("sample ");
        number(now() - before);
        for (k = 0; k < SPQ_CLASSES; ++k)
            number((uint32_t)spq_logits()[k]);
        words("\n");
    }
#ifdef SPQ_LAYERS
    for (k = 0; k < SPQ_LAYERS; ++k) {
        words("layer ");
        number(layer_ticks[k]);
        words("\n");
    }
#endif
    end();
    return 0;
}
