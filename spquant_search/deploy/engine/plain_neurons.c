/* ---------------------------------------------------------------- plain: neurons */

#if SPQ_TIME_STEPS > 1
/* Tells how a position's membranes are packed. Codes whose bits divide a byte, and which fill whole bytes, are packed
 * like rows of weights: byte j of q holds the channels j, j + q, j + 2q and so on. All others are laid end to end. */
static uint32_t fills_bytes(uint32_t count, uint32_t bits)
{
    return 8u % bits == 0 && count * bits % 8u == 0;
}

static void read_codes(const spq_neurons *n, uint32_t first, uint32_t count)
{
    const uint32_t mask = (1u << n->bits) - 1u;
    uint32_t c;
    if (fills_bytes(count, n->bits)) {
        const uint32_t q = count * n->bits / 8u;
        const uint8_t *at = n->membrane + first / count * q;
        uint32_t slot;
        for (slot = 0; slot < 8u / n->bits; ++slot)
            for (c = 0; c < q; ++c)
                codes[slot * q + c] = (int16_t)((int)(at[c] >> (slot * n->bits) & mask) + n->lowest);
        return;
    }
    for (c = 0; c < count; ++c) {
        const uint32_t bit = (uint32_t)(first + c) * n->bits;
        const uint8_t *at = n->membrane + (bit >> 3);
        uint32_t window = at[0];
        if ((bit & 7u) + n->bits > 8u)
            window |= (uint32_t)at[1] << 8;
        codes[c] = (int16_t)((int)(window >> (bit & 7u) & mask) + n->lowest);
    }
}

static void write_codes(const spq_neurons *n, uint32_t first, uint32_t count)
{
    const uint32_t mask = (1u << n->bits) - 1u;
    uint32_t c;
    if (fills_bytes(count, n->bits)) {
        const uint32_t q = count * n->bits / 8u;
        uint8_t *at = n->membrane + first / count * q;
        uint32_t slot;
        for (c = 0; c < q; ++c)
            at[c] = (uint8_t)(codes[c] - n->lowest);
        for (slot = 1; slot < 8u / n->bits; ++slot)
            for (c = 0; c < q; ++c)
                at[c] = (uint8_t)(at[c] | (codes[slot * q + c] - n->lowest) << (slot * n->bits));
        return;
    }
    for (c = 0; c < count; ++c) {
        const uint32_t bit = (uint32_t)(first + c) * n->bits;
        uint8_t *at = n->membrane + (bit >> 3);
        const uint32_t shift = bit & 7u, code = (uint32_t)(codes[c] - n->lowest);
        at[0] = (uint8_t)((at[0] & ~(mask << shift)) | code << shift);
        if (shift + n->bits > 8u)
            at[1] = (uint8_t)((at[1] & ~(mask >> (8u - shift))) | code >> (8u - shift));
    }
}

/*@REST@*/
/* Writes the codes of neurons at rest where the bits of a code do not divide a byte. */
static void rest(uint8_t *membrane, uint32_t count, uint32_t bits, uint32_t code)
{
    uint32_t c, b;
    for (c = 0; c < count; ++c)
        for (b = 0; b < bits; ++b)
            if (code >> b & 1u) {
                const uint32_t bit = (uint32_t)c * bits + b;
                membrane[bit >> 3] = (uint8_t)(membrane[bit >> 3] | 1u << (bit & 7u));
            }
}
/*@END@*/
/* Returns floor(value / 2^shift): the compiler decides what >> does with negative numbers. */
static spq_potential floor_shift(spq_potential value, uint32_t shift)
{
#ifdef __GNUC__
    return value >> shift; /* these compilers keep the sign */
#else
    return value >= 0 ? value >> shift : ~(~value >> shift);
#endif
}

static uint32_t takes_current(const spq_neurons *n, uint32_t c) { return codes[c] >= n->cut; }
#else /* Nothing is stored for a step that does not come, and no neuron is skipped in the first one. */
#define read_codes(neurons, first, count) ((void)0)
#define write_codes(neurons, first, count) ((void)0)
#define takes_current(neurons, c) 1u
#endif

/* Runs one time step of `count` neurons: it reads their codes and currents and writes their codes and spikes. */
static void fire(const spq_neurons *n, const spq_potential *currents, uint32_t count, uint8_t *spikes)
{
    spq_potential one = (spq_potential)1 << n->threshold_up;
    uint32_t c, bit;
#if SPQ_TIME_STEPS > 1
    const spq_potential leaked = (spq_potential)n->leak * ((spq_potential)1 << n->leak_up);
    const spq_potential half = (spq_potential)1 << (n->round_down - 1u);
    /*@SUBTRACTS@*/
    const spq_potential subtracted = (spq_potential)n->subtracts * ((spq_potential)1 << n->subtracts_up);
    /*@END@*/
#endif
    /*@AT_THRESHOLD@*/
    one -= n->at_threshold; /* whole numbers: what exceeds one less is at the threshold or above */
    /*@END@*/
#if SPQ_TIME_STEPS > 1
    for (c = 0; c < count; ++c) {
        const spq_potential taken = takes_current(n, c) ? currents[c] * (spq_potential)n->gain : 0;
        const spq_potential u = codes[c] * leaked + taken;
        spq_potential kept = u > one ? 0 : u, nearest;
        /*@SUBTRACTS@*/
        kept = u > one && subtracted ? u - subtracted : kept;
        /*@END@*/
        nearest = floor_shift(kept + half - (kept > 0), n->round_down); /* ties toward zero */
        nearest = nearest < n->lowest ? n->lowest : nearest;
        nearest = nearest > n->highest ? n->highest : nearest;
        fired[c] = (uint8_t)(u > one);
        codes[c] = (int16_t)nearest;
    }
#else
    for (c = 0; c < count; ++c)
        fired[c] = (uint8_t)(currents[c] * (spq_potential)n->gain > one);
#endif
    for (c = 0; c < count; c += 8) {
        uint32_t byte = 0;
        for (bit = 0; bit < 8u && c + bit < count; ++bit)
            byte |= (uint32_t)fired[c + bit] << (7u - bit);
        spikes[c >> 3] = (uint8_t)byte;
    }
}

