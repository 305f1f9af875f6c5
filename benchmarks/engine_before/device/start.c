/* Start-up code of a Cortex-M: the vector table, then the memory of main. */
#include <stdint.h>

extern uint32_t _estack, _sidata, _sdata, _edata, _sbss, _ebss;
int main(void);

void Reset_Handler(void)
{
    uint32_t *from = &_sidata, *to = &_sdata;
    while (to < &_edata)
        *to++ = *from++;
    for (to = &_sbss; to < &_ebss;)
        *to++ = 0;
    main();
    for (;;)
        ;
}

static void stop(void)
{
    for (;;)
        ;
}

__attribute__((section(".isr"), used)) void *const vectors[16] = {
    &_estack, (void *)Reset_Handler, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop, 0, 0, 0, 0,
    (void *)stop, (void *)stop, 0, (void *)stop, (void *)stop,
};
