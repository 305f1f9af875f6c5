/* Runs samples that it reads from frames.bin through a picked network, and writes what comes out to results.bin.
 *
 * frames.bin: how many samples, how many frames each has, then the frames. results.bin: a header; for each sample one
 * record a time step, and then one of the sample; a footer. All numbers are words of 32 bits. results.py reads them. */

#include <stdint.h>

#include "model.h"
#include "semihosting.h"
#include "timer.h"

#define UNTOUCHED 0x5a5a5a5au
enum { HEADER = 0x51505301, SAMPLE = 0x51505302, FOOTER = 0x51505303, TESTED_TURNS = 100000 };

extern uint32_t end_of_zeros[];
static uint32_t frames_file, results_file;
static uint32_t *stack_of_caller; /* where the library is called */

/* ---------------------------------------------------------------- files */

static uint32_t opened(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t arguments[3] = {(uint32_t)(uintptr_t)name, mode, length};
    return semihosting(SYS_OPEN, arguments);
}

static void read_all(void *to, uint32_t bytes)
{
    const uint32_t arguments[3] = {frames_file, (uint32_t)(uintptr_t)to, bytes};
    if (semihosting(SYS_READ, arguments) != 0) {
        say("error frames.bin cannot be read\n");
        leave(0);
    }
}

static void write_all(const uint32_t *words, uint32_t count)
{
    const uint32_t arguments[3] = {results_file, (uint32_t)(uintptr_t)words, 4u * count};
    if (semihosting(SYS_WRITE, arguments) != 0) {
        say("error results.bin cannot be written\n");
        leave(0);
    }
}

/* ---------------------------------------------------------------- what is measured */

/* A loop of two instructions a turn: shows how many instructions the timer's tick has. */
static uint32_t ticks_of_tested_turns(void)
{
    uint32_t turns = TESTED_TURNS, begin = ticks_now();
    __asm__ volatile(".syntax unified\n1:\n\tsubs %0, #1\n\tbne 1b" : "+l"(turns) : : "cc");
    return ticks_now() - begin;
}

/* Fills what no stack has used yet: word by word, as a call of memset would paint over its own stack, and but for a
 * few words, as a compiler may save registers after this function's own top was read. */
static __attribute__((noinline)) void paint_stack(void)
{
    volatile uint32_t *word = end_of_zeros;
    uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    while (word < top - 16)
        *word++ = UNTOUCHED;
}

static uint32_t *deepest_of_stack(void)
{
    uint32_t *word = end_of_zeros;
    while (*word == UNTOUCHED)
        ++word;
    return word;
}

#ifdef SPQ_TRACE
/* Of one time step: the checksums of the layers' spikes, the ticks of the layers, and those of what comes after. */
static uint32_t step_record[2 * LAYERS + 1];
static uint32_t layers_run, layer_begin;

/* The CRC-32 of zlib, half a byte at a time. */
static uint32_t checksum(const uint8_t *bytes, uint32_t count)
{
    static const uint32_t half[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t sum = 0xffffffffu;
    while (count--) {
        sum ^= *bytes++;
        sum = sum >> 4 ^ half[sum & 15u];
        sum = sum >> 4 ^ half[sum & 15u];
    }
    return ~sum;
}

/* Called after each layer. What it takes itself is in no layer's ticks. */
static void keep(int layer, const uint8_t *spikes, uint32_t bytes)
{
    const uint32_t end = ticks_now();
    (void)layer;
    if (layers_run < LAYERS) {
        step_record[layers_run] = checksum(spikes, bytes);
        step_record[LAYERS + layers_run] = end - layer_begin;
    }
    ++layers_run;
    layer_begin = ticks_now();
}

static void run_step(const uint8_t *frame)
{
    spq_trace = keep;
    layers_run = 0;
    layer_begin = ticks_now();
    spq_step(frame);
    step_record[2 * LAYERS] = ticks_now() - layer_begin;
    if (layers_run != LAYERS) {
        say("error it ran another number of layers than the manifest has\n");
        leave(0);
    }
}
#else
/* Of one time step: its ticks. */
static uint32_t step_record[1];

static void run_step(const uint8_t *frame)
{
    const uint32_t begin = ticks_now();
    spq_step(frame);
    step_record[0] = ticks_now() - begin;
}
#endif

/* ---------------------------------------------------------------- the samples */

/* Runs a sample and writes its records; the ticks in the last one are those of spq_reset and spq_class. */
static void run_sample(uint32_t number, uint32_t frames)
{
    static uint8_t frame[SPQ_FRAME_BYTES];
    static uint32_t record[4 + SPQ_CLASSES];
    uint32_t begin, t, i;
    __asm__ volatile("mov %0, sp" : "=r"(stack_of_caller));
    record[0] = SAMPLE;
    record[1] = number;
    begin = ticks_now();
    spq_reset();
    record[2] = ticks_now() - begin;
    for (t = 0; t < SPQ_TIME_STEPS; ++t) {
        if (t < frames)
            read_all(frame, SPQ_FRAME_BYTES);
        run_step(frame);
        write_all(step_record, sizeof step_record / sizeof *step_record);
    }
    begin = ticks_now();
    record[3] = (uint32_t)spq_class();
    record[2] += ticks_now() - begin;
    for (i = 0; i < SPQ_CLASSES; ++i)
        record[4 + i] = (uint32_t)spq_logits()[i];
    write_all(record, 4 + SPQ_CLASSES);
}

int main(void)
{
    uint32_t asked[2], number;
    start_timer();
    frames_file = opened("frames.bin", 10, OPEN_TO_READ);
    results_file = opened("results.bin", 11, OPEN_TO_WRITE);
    read_all(asked, sizeof asked);
    {
        const uint32_t header[5] = {HEADER, SPQ_TIME_STEPS, SPQ_CLASSES, SPQ_FRAME_BYTES, ticks_of_tested_turns()};
        write_all(header, 5);
    }
    paint_stack();
    for (number = 0; number < asked[0]; ++number)
        run_sample(number, asked[1]);
    {
        uint32_t *deepest = deepest_of_stack();
        const uint32_t footer[4] = {FOOTER, number, (uint32_t)(4 * (stack_of_caller - deepest)),
                                    (uint32_t)(4 * (deepest - end_of_zeros))};
        write_all(footer, 4);
    }
    return 1;
}
