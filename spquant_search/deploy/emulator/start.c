/* The start of the emulated program, and its end where it faults. */

#include <stdint.h>

#include "semihosting.h"

extern uint32_t image_of_data[], begin_of_data[], end_of_data[], begin_of_zeros[], end_of_zeros[], top_of_stack[];

int main(void);
void start(void);
void fault(void);
void tell_fault(const uint32_t *frame);

/* With the FPU on where there is one: code for a Cortex-M55 may use its vector registers. */
#define CPACR (*(volatile uint32_t *)0xe000ed88u)
#define ICSR (*(volatile uint32_t *)0xe000ed04u)
#define CFSR (*(volatile uint32_t *)0xe000ed28u)

void start(void)
{
    const uint32_t *from = image_of_data;
    uint32_t *to;
    CPACR |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb");
    for (to = begin_of_data; to < end_of_data;)
        *to++ = *from++;
    for (to = begin_of_zeros; to < end_of_zeros;)
        *to++ = 0;
    leave(main());
}

/* A fault may come from a stack that is none: its report has one of its own. */
__attribute__((naked)) void fault(void)
{
    __asm__ volatile("mov r0, sp\n\tldr r1, =top_of_stack\n\tmov sp, r1\n\tbl tell_fault\n\t.ltorg");
}

static char *hexadecimal(char *to, uint32_t number)
{
    int shift;
    for (shift = 28; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[number >> shift & 15u];
    return to;
}

/* Prints "fault", the number of the exception, what CFSR says, and where, if the stack still holds it. What lies in RAM
 * may have been written over by now. */
void tell_fault(const uint32_t *frame)
{
    char line[40], *to = line;
    say("fault ");
    to = hexadecimal(to, ICSR & 0x1ffu);
    *to++ = ' ';
    to = hexadecimal(to, CFSR);
    *to++ = ' ';
    to = hexadecimal(to, frame >= begin_of_data && frame + 8 <= top_of_stack ? frame[6] : 0u);
    *to++ = '\n';
    *to = 0;
    say(line);
    leave(0);
}

/* The first exceptions; no interrupt is ever enabled. */
__attribute__((section(".vectors"), used)) void *const vectors[16] = {
    top_of_stack, (void *)start, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
    (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
    (void *)fault, (void *)fault,
};
