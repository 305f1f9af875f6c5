/* ---------------------------------------------------------------- fast: neurons
 *
 * The neurons of one position, or of several that make whole words of spikes, take their sums. What a sum is multiplied
 * with and what is added then is made once in a time step for each channel: slope, offset, gain, the bias of pairs, and
 * 0 in a channel that is closed. A sum in a pair is 16 bits with 0x8000 added, so that no subtraction is needed. */

#define SPQ_FACTOR(effect) ((uint32_t)(effect))
#define SPQ_OFFSET(effect) ((uint32_t)((effect) >> 32))

static SPQ_INLINE uint32_t current_of(uint64_t effect, uint32_t sum) { return SPQ_FACTOR(effect) * sum + SPQ_OFFSET(effect); }

/* The sum of a channel, counted from where `sum` begins, a multiple of four. */
static SPQ_INLINE uint32_t sum_of(const uint32_t *sum, uint32_t channel, const int wide)
{
    if (wide)
        return sum[channel];
    sum += channel / 4u * 2u + channel % 2u;
    return channel & 2u ? *sum >> 16 : *sum & 0xffffu;
}

/*@ONCE@*/
/* One time step: nothing is stored. A threshold is subtracted among the offsets, so that a sign tells what spikes. */
static SPQ_INLINE void fire_once(uint32_t count, const int wide)
{
    const uint32_t *sum = fast_sums;
    const uint64_t *effect = effects;
    uint32_t *fired = fired_words, *const end = fired_words + count / 32u;
    while (fired != end) {
        uint32_t silent = 0, i;
        for (i = 0; i < 8; ++i, effect += 4, sum += wide ? 4 : 2) {
            silent = silent << 1 | current_of(effect[0], sum_of(sum, 0, wide)) >> 31;
            silent = silent << 1 | current_of(effect[1], sum_of(sum, 1, wide)) >> 31;
            silent = silent << 1 | current_of(effect[2], sum_of(sum, 2, wide)) >> 31;
            silent = silent << 1 | current_of(effect[3], sum_of(sum, 3, wide)) >> 31;
        }
        *fired++ = ~silent;
    }
}

/*@END@*/
/*@TWO_BITS@*/
/* Three and four levels, which are whole thresholds, and a leak of a half: a potential in halves of a threshold,
 * limited to -4 .. 3, tells the next code and the spike. Eight of them are put into one word and turned into codes
 * together. Potentials are less by one unit than they are, so that a sign tells on which side of 0 one is: ties go to
 * 0. A word of codes is of the channels 4i and 4i + 2, the next one of 4i + 1 and 4i + 3, as pairs of sums are; then
 * the spikes of both interleave in the order of the channels. */
static SPQ_INLINE uint32_t halves_of(uint32_t potential)
{
#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT) && __ARM_ARCH >= 7
    uint32_t halves; /* one instruction that the compiler does not find by itself */
    __asm__("ssat %0, #3, %1, asr %2" : "=r"(halves) : "r"(potential + (potential >> 31)), "i"(SPQ_FRACTION - 1));
    return halves;
#else
    int32_t halves = floor_shift32((int32_t)(potential + (potential >> 31)), SPQ_FRACTION - 1u);
    halves = halves < 3 ? halves : 3;
    return (uint32_t)(halves > -4 ? halves : -4);
#endif
}

/* The two bits of a code that are at `from` and above, moved to where half a threshold is 1. */
static SPQ_INLINE uint32_t moved_code(uint32_t code, const uint32_t from, uint32_t mask)
{
    return (from >= SPQ_FRACTION - 1u ? code >> ((from - (SPQ_FRACTION - 1u)) & 31u)
                                      : code << ((SPQ_FRACTION - 1u - from) & 31u)) & mask;
}

#define SPQ_TWO(i)                                                                                             \
    high = (high << 4) + halves_of(current_of(e[4 * (i)], wide ? x[4 * (i)] : x[2 * (i)] & 0xffffu) +          \
                                   moved_code(old, 30 - 4 * (i), mask));                                       \
    low = (low << 4) + halves_of(current_of(e[4 * (i) + 2], wide ? x[4 * (i) + 2] : x[2 * (i)] >> 16) +        \
                                 moved_code(old, 28 - 4 * (i), mask))

static SPQ_INLINE void fire_two_bits(const spq_fast *l, uint32_t first, uint32_t count, const int wide)
{
    uint32_t *codes = l->membrane + first / 16u, *fired = fired_words;
    const uint32_t *sum = fast_sums;
    const uint64_t *effect = effects;
    const uint32_t *const end = codes + count / 16u;
    const uint32_t least = l->least, reaches = l->reaches;
    uint32_t mask = (uint32_t)3 << (SPQ_FRACTION - 1u);
    SPQ_IN_REGISTER(mask);
    while (codes != end) {
        uint32_t spikes = 0, odd;
        for (odd = 0; odd < 2; ++odd, ++codes) {
            const uint32_t *x = sum + odd;
            const uint64_t *e = effect + odd;
            const uint32_t old = *codes;
            uint32_t high = 0, low = 0, fired_high, fired_low, next;
            SPQ_TWO(0);
            SPQ_TWO(1);
            SPQ_TWO(2);
            SPQ_TWO(3);
            SPQ_TWO(4);
            SPQ_TWO(5);
            SPQ_TWO(6);
            SPQ_TWO(7);
            /* h = -4 .. 3 in fields of four bits; h + 5 = 1 .. 8 has no borrows, and with one more the spikes on top. */
            high += 0x55555555u;
            low += 0x55555555u;
            fired_high = (high + 0x11111111u) & 0x88888888u;
            fired_low = (low + 0x11111111u) & 0x88888888u;
            high = ((high >> 1 & 0x33333333u) | fired_high >> 2) & ~(fired_high >> 3);
            low = ((low >> 1 & 0x33333333u) | fired_low >> 2) & ~(fired_low >> 3);
            next = high << 2 | low;
            next |= ~(next | next >> 1) & least; /* of three levels none is below -1 */
            if (reaches != 0xaaaaaaaau) { /* what lies below the cut takes no current: its code is halved */
                const uint32_t skipped = ~(old | ((old & 0x55555555u) + reaches)) & 0xaaaaaaaau;
                const uint32_t ones = skipped >> 1, fields = skipped | ones;
                fired_high &= ~skipped;
                fired_low &= ~(skipped << 2);
                next = (next & ~fields) | ((old + ones) & fields);
            }
            *codes = next;
            spikes |= (fired_high | fired_low >> 2) >> odd;
        }
        sum += wide ? 32 : 16;
        effect += 32;
        *fired++ = spikes;
    }
}

/*@END@*/
/*@WORDS@*/
/* 16 and 256 levels over two thresholds, and a leak of a half: all codes of a word are halved at once, which is right
 * where no current comes; neurons that take one follow one by one. Half of the levels is added to a code, so that its
 * highest bit is set where the potential is not negative. */
#ifdef __GNUC__
#define SPQ_RARELY(a) __builtin_expect(a, 0)
#define SPQ_BRANCH __asm__ volatile("") /* not made into instructions that always run: there are more of those */
#else
#define SPQ_RARELY(a) (a)
#define SPQ_BRANCH ((void)0)
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT) && __ARM_ARCH >= 7
#define SPQ_LIMITED(to, w, bits, down) __asm__("ssat %0, %2, %1, asr %3" : "=r"(to) : "r"(w), "i"(bits), "i"(down))
#define SPQ_PUT(into, field, shift, bits) __asm__("bfi %0, %1, %2, %3" : "+r"(into) : "r"(field), "i"(shift), "i"(bits))
#else
#define SPQ_LIMITED(to, w, bits, down) ((to) = limited(floor_shift32((int32_t)(w), down), (int32_t)1 << ((bits) - 1u)))
#define SPQ_PUT(into, field, shift, bits)                                  \
    ((into) = ((into) & ~((((uint32_t)1 << (bits)) - 1u) << (shift))) |    \
              ((field) & (((uint32_t)1 << (bits)) - 1u)) << (shift))
static SPQ_INLINE uint32_t limited(int32_t a, int32_t most)
{
    a = a < most - 1 ? a : most - 1;
    return (uint32_t)(a > -most ? a : -most);
}
#endif

#define SPQ_ONE(i)                                                                                                    \
    if (active & 0x80000000u >> (i) * bits) {                                                                         \
        const uint32_t shift = 32u - bits * ((i) + 1u);                                                               \
        const uint32_t w = current_of(effect[i], sum_of(sum, i, wide)) +                                              \
                           ((shift > leak ? old >> ((shift - leak) & 31u) : old << ((leak - shift) & 31u)) & mask);   \
        uint32_t next;                                                                                                \
        SPQ_LIMITED(next, w + (w >> 31) + ((uint32_t)1 << (down - 1u)), bits, down);                                  \
        if (SPQ_RARELY((int32_t)w >= (int32_t)((uint32_t)1 << SPQ_FRACTION))) {                                       \
            SPQ_BRANCH;                                                                                               \
            next = 0;                                                                                                 \
            spikes |= (uint32_t)1 << (32u / bits - 1u - (i));                                                         \
        }                                                                                                             \
        SPQ_PUT(halved, next, shift, bits);                                                                              \
    }

static SPQ_INLINE void fire_words(const spq_fast *l, uint32_t first, uint32_t count, const uint32_t bits, const int wide)
{
    uint32_t ones = bits == 8 ? 0x01010101u : 0x11111111u, lower = bits == 8 ? 0x7f7f7f7fu : 0x77777777u;
    uint32_t *codes = l->membrane + first / (32u / bits), *fired = fired_words;
    const uint32_t *sum = fast_sums, *open = open_words;
    const uint64_t *effect = effects;
    const uint32_t *const end = codes + count / (32u / bits);
    const uint32_t down = SPQ_FRACTION - (bits - 1u), leak = down - 1u, reaches = l->reaches;
    uint32_t mask = (((uint32_t)1 << bits) - 1u) << leak;
    SPQ_IN_REGISTER(mask);
    SPQ_IN_REGISTER(ones);
    SPQ_IN_REGISTER(lower);
    while (codes != end) {
        uint32_t spikes = 0, k;
        for (k = 0; k < bits; ++k) {
            const uint32_t old = *codes, active = *open++ & (old | ((old & lower) + reaches));
            uint32_t halved = ((old + (ones & ~(old >> (bits - 1u)))) >> 1 & lower) + (bits == 8 ? 0x40404040u : 0x44444444u);
            spikes <<= 32u / bits;
            if (active) {
                SPQ_ONE(0)
                SPQ_ONE(1)
                SPQ_ONE(2)
                SPQ_ONE(3)
                if (bits == 4) {
                    SPQ_ONE(4)
                    SPQ_ONE(5)
                    SPQ_ONE(6)
                    SPQ_ONE(7)
                }
            }
            *codes++ = halved ^ active; /* those were put in as signed numbers */
            sum += wide ? 32u / bits : 16u / bits;
            effect += 32u / bits;
        }
        *fired++ = spikes;
    }
}

/*@END@*/
/*@ANY@*/
/* Every other neuron, one by one, in the fixed point of its layer: codes of any bits lie end to end in words, the first
 * channel in the highest bits. */
static SPQ_ALONE void fire_any(const spq_fast *l, uint32_t first, uint32_t count)
{
    const spq_rule *r = l->rule;
    const int32_t one = (int32_t)((uint32_t)1 << r->threshold_up) - r->at_threshold;
    const int32_t leaked = (int32_t)((uint32_t)r->leak << r->leak_up), half = (int32_t)1 << (r->round_down - 1u);
    const int32_t subtracted = (int32_t)((uint32_t)r->subtracts << r->subtracts_up);
    const uint32_t bits = l->membrane_bits, mask = ((uint32_t)1 << bits) - 1u;
    uint32_t at = first * bits, c, spikes = 0;
    for (c = 0; c < count; ++c, at += bits) {
        uint32_t *word = l->membrane + at / 32u;
        const uint32_t end = at % 32u + bits; /* where it is more than 32, the rest of the code is in the next word */
        const uint32_t stored = end <= 32 ? word[0] >> (32u - end) : word[0] << (end - 32u) | word[1] >> (64u - end);
        const int32_t code = (int32_t)(stored & mask) + r->lowest;
        const uint32_t taken = code < r->cut ? 0u : current_of(effects[c], sum_of(fast_sums, c, l->wide));
        const int32_t potential = (int32_t)((uint32_t)code * (uint32_t)leaked + taken);
        const uint32_t fires = potential > one;
        int32_t kept = potential, nearest;
        if (fires)
            kept = subtracted ? potential - subtracted : 0;
        nearest = floor_shift32(kept + half - (kept > 0), r->round_down); /* ties toward zero */
        nearest = nearest < r->lowest ? r->lowest : nearest;
        nearest = (nearest > r->highest ? r->highest : nearest) - r->lowest;
        if (end <= 32) {
            word[0] = (word[0] & ~(mask << (32u - end))) | (uint32_t)nearest << (32u - end);
        } else {
            word[0] = (word[0] & ~(mask >> (end - 32u))) | (uint32_t)nearest >> (end - 32u);
            word[1] = (word[1] & ~(mask << (64u - end))) | (uint32_t)nearest << (64u - end);
        }
        spikes = spikes << 1 | fires;
        if (c % 32u == 31)
            fired_words[c / 32u] = spikes;
    }
}

/*@END@*/
/*@STORES@*/
/* Fills membranes with the code of neurons at rest. */
static void rest_words(uint32_t *membrane, uint32_t words, uint32_t bits, uint32_t code)
{
    uint64_t window = 0;
    uint32_t i, held = 0;
    for (i = 0; i < words; ++i) {
        for (; held < 32; held += bits)
            window = window << bits | code;
        held -= 32;
        membrane[i] = (uint32_t)(window >> held);
    }
}

/*@END@*/
#ifdef SPQ_COUNT
/* Tells whether a neuron takes its current in this time step. */
static uint32_t takes_fast(const spq_fast *l, uint32_t neuron)
{
#if SPQ_TIME_STEPS > 1
    const uint32_t bits = l->membrane_bits, code_mask = ((uint32_t)1 << bits) - 1u;
    uint32_t at = neuron * bits, end, stored;
    if (l->neurons == SPQ_TWO_BITS) /* in the order of pairs */
        at = neuron / 32u * 64u + neuron % 2u * 32u + neuron % 32u / 2u * 2u;
    end = at % 32u + bits;
    stored = l->membrane[at / 32u] << (end > 32 ? end - 32u : 0u) >> (end > 32 ? 0u : 32u - end);
    if (end > 32)
        stored |= l->membrane[at / 32u + 1u] >> (64u - end);
    return (int32_t)(stored & code_mask) >= l->counted_from;
#else
    (void)l;
    (void)neuron;
    return 1;
#endif
}

/* Counts the operations of one position whose kernel has `found` inputs that are not zero. */
static void count_fast(const spq_fast *l, uint32_t position, uint32_t found)
{
    uint32_t c, computed = 0;
    for (c = 0; c < l->channels; ++c)
        computed += is_open[c] & takes_fast(l, position * l->channels + c);
    SPQ_COUNT_OPS((uint64_t)found * computed);
}
#define SPQ_COUNT_POSITION(l, position, found) count_fast(l, position, found)
#else
#define SPQ_COUNT_POSITION(l, position, found) ((void)0)
#endif

