/* ---------------------------------------------------------------- fast: sums in slices
 *
 * For weights of 1, 2 and 3 bits. A row of weights is a word for each bit of them and each 32 channels; 32 counters lie
 * across words, plane k holding bit k of each. An event adds one bit to each counter: full adders of whole words, 5
 * instructions for 32 channels. A weight's bit k is added at plane k, a 2x2 sum's bit v at plane k + v, and the sign of
 * weights of 1 bit at plane 1, so that multiplication is choosing a plane. */

/* a + b + c: the sum's bits stay in a, the carries are returned. */
static SPQ_INLINE uint32_t full_adder(uint32_t *a, uint32_t b, uint32_t c)
{
    const uint32_t odd = *a ^ b, carry = (*a & b) | (odd & c);
    *a = odd ^ c;
    return carry;
}

/* Adds listed rows, a multiple of four, to 32 counters. Four planes are in registers; what goes beyond is rare. */
static SPQ_ALONE void add_slices(uint32_t *planes, const uint32_t *rows, const uint16_t *at, const uint16_t *end)
{
    uint32_t p0 = planes[0], p1 = planes[1], p2 = planes[2], p3 = planes[3];
    do {
        uint32_t a, b, c, *p;
        a = full_adder(&p0, rows[at[0]], rows[at[1]]);
        b = full_adder(&p0, rows[at[2]], rows[at[3]]);
        c = full_adder(&p1, a, b);
        at += 4;
        if (at != end) {
            a = full_adder(&p0, rows[at[0]], rows[at[1]]);
            b = full_adder(&p0, rows[at[2]], rows[at[3]]);
            a = full_adder(&p1, a, b);
            a = full_adder(&p2, c, a);
            at += 4;
        } else {
            a = p2 & c;
            p2 ^= c;
        }
        c = p3 & a;
        p3 ^= a;
        for (p = planes + 4; c; ++p) {
            const uint32_t held = *p;
            *p = held ^ c;
            c &= held;
        }
    } while (at != end);
    planes[0] = p0;
    planes[1] = p1;
    planes[2] = p2;
    planes[3] = p3;
}

/* Adds the list to the counters of all channels, `level` planes up. */
static void add_list_in_slices(const spq_fast *l, uint32_t level, uint16_t *end)
{
    const uint32_t *rows = l->weights;
    uint32_t *planes = counters + level;
    uint32_t block, bit;
    if (end == list)
        return;
    end[0] = end[1] = end[2] = (uint16_t)(l->rows - 1u); /* the row of zeros, up to three times */
    end += (list - end) & 3;
    for (block = 0; block < l->channels; block += 32, planes += SPQ_PLANES)
        for (bit = 0; bit < l->bits; ++bit, rows += l->rows)
            add_slices(planes + bit, rows, list, end);
}

#define SPQ_EXCHANGE(a, b, shift, mask)                     \
    do {                                                    \
        const uint32_t t = (((a) >> (shift)) ^ (b)) & (mask); \
        (b) ^= t;                                           \
        (a) ^= t << (shift);                                \
    } while (0)
#define SPQ_EVEN(word) ((word) & 0x00ff00ffu)
#define SPQ_ODD(word) ((word) >> 8 & 0x00ff00ffu)

/* Turns the lowest eight planes of 32 counters into their numbers, four channels a word: three rounds of exchanges
 * transpose squares of 8x8 bits. Writes pairs of them, with `plus` added. */
static SPQ_ALONE void numbers_of(const uint32_t *p, uint32_t planes, uint32_t plus, uint32_t *to, const uint32_t *end)
{
    uint32_t a = p[0], b = p[1], c = p[2], d = p[3], e = p[4], f = p[5], g = p[6], h = p[7], x[8], s, k;
    SPQ_EXCHANGE(a, b, 1, 0x55555555u);
    SPQ_EXCHANGE(c, d, 1, 0x55555555u);
    SPQ_EXCHANGE(e, f, 1, 0x55555555u);
    SPQ_EXCHANGE(g, h, 1, 0x55555555u);
    SPQ_EXCHANGE(a, c, 2, 0x33333333u);
    SPQ_EXCHANGE(b, d, 2, 0x33333333u);
    SPQ_EXCHANGE(e, g, 2, 0x33333333u);
    SPQ_EXCHANGE(f, h, 2, 0x33333333u);
    SPQ_EXCHANGE(a, e, 4, 0x0f0f0f0fu);
    SPQ_EXCHANGE(b, f, 4, 0x0f0f0f0fu);
    SPQ_EXCHANGE(c, g, 4, 0x0f0f0f0fu);
    SPQ_EXCHANGE(d, h, 4, 0x0f0f0f0fu);
    if (planes <= 8) { /* without the array, which would be in memory */
        to[0] = plus + SPQ_EVEN(a), to[1] = plus + SPQ_ODD(a), to[2] = plus + SPQ_EVEN(b), to[3] = plus + SPQ_ODD(b);
        if (to + 4 == end)
            return;
        to[4] = plus + SPQ_EVEN(c), to[5] = plus + SPQ_ODD(c), to[6] = plus + SPQ_EVEN(d), to[7] = plus + SPQ_ODD(d);
        if (to + 8 == end)
            return;
        to[8] = plus + SPQ_EVEN(e), to[9] = plus + SPQ_ODD(e), to[10] = plus + SPQ_EVEN(f), to[11] = plus + SPQ_ODD(f);
        if (to + 12 == end)
            return;
        to[12] = plus + SPQ_EVEN(g), to[13] = plus + SPQ_ODD(g), to[14] = plus + SPQ_EVEN(h), to[15] = plus + SPQ_ODD(h);
        return;
    }
    x[0] = a, x[1] = b, x[2] = c, x[3] = d, x[4] = e, x[5] = f, x[6] = g, x[7] = h;
    for (s = 0; to != end; ++s, to += 2) {
        uint32_t high = p[8] >> s & 0x01010101u;
        for (k = 9; k < planes; ++k)
            high |= (p[k] >> s & 0x01010101u) << (k - 8u);
        to[0] = plus + SPQ_EVEN(x[s]) + (SPQ_EVEN(high) << 8);
        to[1] = plus + SPQ_ODD(x[s]) + (high & 0xff00ff00u);
    }
}

/* Writes the sums of one position, and clears the counters. `total` is the sum of the inputs' values. */
static void sums_of_slices(const spq_fast *l, uint32_t total, uint32_t plus, uint32_t *to)
{
    const uint32_t largest = total * (l->bits == 1 ? 2u : (2u << (l->bits - 1u)) - 2u);
    uint32_t planes = 8, first, k, *p = counters;
    while (largest >> planes)
        ++planes;
    for (first = 0; first < l->channels; first += 32, p += SPQ_PLANES) {
        const uint32_t some = l->channels - first < 32 ? l->channels - first : 32;
        numbers_of(p, planes, plus, to + first / 2u, to + (first + some) / 2u);
        p[0] = p[1] = p[2] = p[3] = p[4] = p[5] = p[6] = p[7] = 0;
        for (k = 8; k < planes; ++k)
            p[k] = 0;
    }
}

