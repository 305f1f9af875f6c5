/* ---------------------------------------------------------------- fast: what spiked under a kernel
 *
 * A fast layer finds what lies under its kernel once for each position, as numbers of rows of weights, and then goes
 * through the list for each word of output channels. The spikes of a kernel's row are one string of bits. */

static inline uint32_t load(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void store(uint8_t *at, uint32_t bits)
{
    at[0] = (uint8_t)(bits >> 24);
    at[1] = (uint8_t)(bits >> 16);
    at[2] = (uint8_t)(bits >> 8);
    at[3] = (uint8_t)bits;
}

/* Takes one bit off a set that is not empty; returns its place, counted from the highest bit. */
static SPQ_INLINE uint32_t take(uint32_t *set)
{
#if defined(__GNUC__) && !defined(__ARM_ARCH_6M__)
    const uint32_t place = (uint32_t)__builtin_clzl((unsigned long)*set) - (8u * (uint32_t)sizeof(long) - 32u);
    *set &= ~(0x80000000u >> place);
    return place;
#else
    /* Without an instruction for it: a de Bruijn sequence, which has each number of five bits in it once. */
    static const uint8_t places[32] = {31, 30, 3, 29, 2, 17, 7, 28, 1, 9, 11, 16, 6, 14, 27, 23,
                                       0, 4, 18, 8, 10, 12, 15, 24, 5, 19, 13, 25, 20, 26, 21, 22};
    const uint32_t lowest = *set & (0u - *set);
    *set ^= lowest;
    return places[(lowest * 0x077cb531u & 0xffffffffu) >> 27];
#endif
}

/*@LISTS@*/
/* Lists the bits of a string of bytes; its first bit is called `row`. It may read three bytes more than there are. */
static SPQ_INLINE uint16_t *list_string(const uint8_t *at, uint32_t bytes, uint32_t row, uint16_t *to)
{
    uint32_t set;
    for (; bytes > 4; bytes -= 4, at += 4, row += 32) {
        set = load(at);
        while (set)
            *to++ = (uint16_t)(row + take(&set));
    }
    set = load(at) & 0xffffffffu << (32u - 8u * bytes);
    while (set)
        *to++ = (uint16_t)(row + take(&set));
    return to;
}

/* Lists the spikes under the kernel of one position. */
static SPQ_ALONE uint16_t *list_spikes(const spq_fast *l, uint32_t row, uint32_t column)
{
    const uint32_t size = l->in_channels / 8u, line = l->in_width * size;
    const uint32_t left = column ? 0 : 1, right = column + 1u < l->in_width ? 3 : 2;
    const uint32_t from = row ? 0 : 1, until = row + 1u < l->in_height ? 3 : 2;
    const uint8_t *at = l->in + (row + from - 1u) * line + (column + left - 1u) * size;
    uint32_t i, first = (3u * from + left) * l->in_channels;
    uint16_t *to = list;
    for (i = from; i < until; ++i, at += line, first += 3u * l->in_channels)
        to = list_string(at, (right - left) * size, first, to);
    return to;
}

/*@END@*/
/*@SUMS_2X2@*/
/* Where a layer pools its currents before its neurons, the convolution of stride 1 and the sum over 2x2 of its outputs
 * are one convolution of stride 2 over 2x2 sums of its inputs, 0 to 4: 9 taps instead of 36, and spikes that lie
 * together are one event. Three rows of sums are kept, each number in three planes of bits. */
static SPQ_ALONE void sum_2x2(const spq_fast *l, int32_t row, uint8_t (*planes)[SPQ_MOST_POOLED])
{
    const uint32_t size = l->in_channels / 8u, line = l->in_width * size, end = (2u * l->width + 1u) * size;
    const uint8_t *upper = row < 0 ? no_spikes : l->in + (uint32_t)row * line;
    const uint8_t *lower = row + 1 < (int32_t)l->in_height ? l->in + (uint32_t)(row + 1) * line : no_spikes;
    const uint32_t down = row < 0 ? 0 : 4, up = row + 1 < (int32_t)l->in_height ? 4 : 0;
    uint8_t *const ones = pair_sums[0] + size, *const twos = pair_sums[1] + size;
    uint32_t x;
    /* Sums of a pixel and the one below; a pixel of none lies before the first one, and one behind the last. */
    memset(pair_sums[0], 0, size);
    memset(pair_sums[1], 0, size);
    for (x = 0; x < line; x += 4, upper += down, lower += up) {
        const uint32_t a = load(upper), b = load(lower);
        store(ones + x, a ^ b);
        store(twos + x, a & b);
    }
    memset(ones + line, 0, size);
    memset(twos + line, 0, size);
    /* Half adders of the sums of neighbours: column x is of the pixels x - 1 and x. */
    for (x = 0; x < end; x += 4) {
        const uint32_t s = load(pair_sums[0] + x), t = load(ones + x), c = load(pair_sums[1] + x), d = load(twos + x);
        store(planes[0] + x, s ^ t);
        store(planes[1] + x, (c ^ d) | (s & t));
        store(planes[2] + x, c & d);
    }
}

/* Lists where one bit of the sums under the kernel of one position is set. */
static SPQ_ALONE uint16_t *list_sums(const spq_fast *l, uint32_t column, uint32_t bit)
{
    const uint32_t size = l->in_channels / 8u;
    uint16_t *to = list;
    uint32_t i;
    for (i = 0; i < 3; ++i)
        to = list_string(pooled_rows[i][bit] + 2u * column * size, 3u * size, 3u * i * l->in_channels, to);
    return to;
}

/* Goes on to the rows of the kernel at another row of outputs. */
static void next_sums_2x2(const spq_fast *l, uint32_t row)
{
    uint8_t(*kept)[SPQ_MOST_POOLED] = pooled_rows[0];
    if (row == 0) {
        uint32_t i;
        for (i = 0; i < 3; ++i)
            pooled_rows[i] = pooled[i];
        sum_2x2(l, -1, pooled_rows[0]);
    } else {
        pooled_rows[0] = pooled_rows[2];
        pooled_rows[2] = kept;
    }
    sum_2x2(l, (int32_t)(2u * row), pooled_rows[1]);
    sum_2x2(l, (int32_t)(2u * row + 1u), pooled_rows[2]);
}

/*@END@*/
