/* What the emulated program asks of the emulator, by Arm's semihosting: files of the host, a line of text, its end. */
#ifndef SPQ_SEMIHOSTING_H
#define SPQ_SEMIHOSTING_H

#include <stdint.h>

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT = 0x18 };
enum { OPEN_TO_READ = 1, OPEN_TO_WRITE = 5 }; /* fopen's "rb" and "wb" */

static inline uint32_t semihosting(uint32_t operation, const void *arguments)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* Prints a line that begins with a word which says what kind of line it is. */
static inline void say(const char *text)
{
    (void)semihosting(SYS_WRITE0, text);
}

static inline void leave(int is_well)
{
    /* ADP_Stopped_ApplicationExit, or ADP_Stopped_RunTimeErrorUnknown */
    (void)semihosting(SYS_EXIT, (const void *)(uintptr_t)(is_well ? 0x20026u : 0x20023u));
    for (;;)
        ;
}

#endif
