/* The timer of an emulated machine, which counts up here whatever the machine has.
 *
 * The compiler's command line has one TIMER_..., the address of the timer's registers. Differences of 32 bits are right
 * up to 2^32 ticks, which are minutes of emulation. */
#ifndef SPQ_TIMER_H
#define SPQ_TIMER_H

#include <stdint.h>

#define AT(address) (*(volatile uint32_t *)(uintptr_t)(address))

#if defined(TIMER_CMSDK) /* of Arm's MPS2 and MPS3 boards: control, value, reload; it counts down */
static inline void start_timer(void)
{
    AT(TIMER_CMSDK + 8u) = 0xffffffffu;
    AT(TIMER_CMSDK + 4u) = 0xffffffffu;
    AT(TIMER_CMSDK) = 1u;
}
static inline uint32_t ticks_now(void)
{
    return ~AT(TIMER_CMSDK + 4u);
}
#elif defined(TIMER_STM32) /* TIM2; the emulator clocks it with 1 GHz, and a prescaler of 15 divides that by 16 */
static inline void start_timer(void)
{
    AT(TIMER_STM32 + 0x28u) = 15u;
    AT(TIMER_STM32 + 0x2cu) = 0xffffffffu;
    AT(TIMER_STM32 + 0x14u) = 1u;
    AT(TIMER_STM32) = 1u;
}
static inline uint32_t ticks_now(void)
{
    return AT(TIMER_STM32 + 0x24u);
}
#elif defined(TIMER_SSE) /* the counter of an SSE-300: control at this address, the lower half of its value 8 above */
static inline void start_timer(void)
{
    AT(TIMER_SSE) = 1u;
}
static inline uint32_t ticks_now(void)
{
    return AT(TIMER_SSE + 8u);
}
#else
#error "no timer is named"
#endif

#endif
