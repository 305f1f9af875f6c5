/* ---------------------------------------------------------------- fast: sums in pairs
 *
 * For weights of 8 bits. A word has four codes, which are added to two words of two lanes of 16 bits each; two words lie
 * side by side, for a block of eight channels. Sums leave as a word each. Blocks whose channels are all closed are left
 * out. */

/* sum + (bytes & mask), and the same of bytes >> 8: where nothing is carried between the lanes, one instruction of some
 * processors, which compilers do not find by themselves. */
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP)
#define SPQ_ADD_EVEN(sum, bytes) __asm__("uxtab16 %0, %0, %1" : "+r"(sum) : "r"(bytes))
#define SPQ_ADD_ODD(sum, bytes) __asm__("uxtab16 %0, %0, %1, ror #8" : "+r"(sum) : "r"(bytes))
#else
#define SPQ_ADD_EVEN(sum, bytes) ((sum) += (bytes) & mask)
#define SPQ_ADD_ODD(sum, bytes) ((sum) += (bytes) >> 8 & mask)
#endif
#define SPQ_MOST_PAIRED 258 /* as often the largest code fits 16 bits */

/* Adds the listed rows of one block, an even number, so many times, and `plus`; the first time, sums begin with it. */
static SPQ_INLINE void add_pairs(const uint32_t *rows, uint32_t times, const uint16_t *end, uint32_t plus,
                                 uint32_t *to, const uint16_t *channel, const uint32_t begins)
{
    const uint16_t *at = list;
    uint32_t mask = 0x00ff00ffu, a = 0, b = 0, c = 0, d = 0;
    SPQ_IN_REGISTER(mask);
    while (at != end) { /* two at once */
        const uint32_t *row = rows + 2u * at[0];
        uint32_t w = row[0], v = row[1];
        SPQ_ADD_EVEN(a, w);
        SPQ_ADD_ODD(b, w);
        SPQ_ADD_EVEN(c, v);
        SPQ_ADD_ODD(d, v);
        row = rows + 2u * at[1];
        w = row[0];
        v = row[1];
        at += 2;
        SPQ_ADD_EVEN(a, w);
        SPQ_ADD_ODD(b, w);
        SPQ_ADD_EVEN(c, v);
        SPQ_ADD_ODD(d, v);
    }
    if (begins) {
        to[channel[0]] = (a & 0xffffu) * times + plus;
        to[channel[1]] = (b & 0xffffu) * times + plus;
        to[channel[2]] = (a >> 16) * times + plus;
        to[channel[3]] = (b >> 16) * times + plus;
        to[channel[4]] = (c & 0xffffu) * times + plus;
        to[channel[5]] = (d & 0xffffu) * times + plus;
        to[channel[6]] = (c >> 16) * times + plus;
        to[channel[7]] = (d >> 16) * times + plus;
    } else {
        to[channel[0]] += (a & 0xffffu) * times + plus;
        to[channel[1]] += (b & 0xffffu) * times + plus;
        to[channel[2]] += (a >> 16) * times + plus;
        to[channel[3]] += (b >> 16) * times + plus;
        to[channel[4]] += (c & 0xffffu) * times + plus;
        to[channel[5]] += (d & 0xffffu) * times + plus;
        to[channel[6]] += (c >> 16) * times + plus;
        to[channel[7]] += (d >> 16) * times + plus;
    }
}

/* Does the same where the lanes would not hold what comes. That is rare: it may take its time. */
static SPQ_ALONE void add_widely(const uint32_t *rows, uint32_t times, const uint16_t *end, uint32_t plus,
                                 uint32_t *to, const uint16_t *channel, uint32_t begins)
{
    uint32_t i;
    for (i = 0; i < 8; ++i) {
        const uint16_t *at;
        uint32_t sum = 0;
        for (at = list; at != end; ++at)
            sum += rows[2u * *at + i / 4u] >> (8u * (i % 4u)) & 255u;
        to[channel[i]] = (begins ? 0u : to[channel[i]]) + sum * times + plus;
    }
}

/* Adds the list, 2^level times, to the sums of all blocks that have an open channel. */
static SPQ_ALONE void add_list_in_pairs(const spq_fast *l, uint32_t level, uint16_t *end, uint32_t *to, uint32_t begins)
{
    const uint32_t found = (uint32_t)(end - list), size = 2u * l->rows, plus = 0u - (found << level) * l->zero;
    const uint16_t *channel = paired_channels;
    uint32_t i, times = (uint32_t)1 << level; /* a product and a sum are one instruction, a shift is one more */
    SPQ_IN_REGISTER(times);
    if (found % 2u)
        *end++ = (uint16_t)(l->rows - 1u); /* the row of zeros */
    for (i = 0; i < blocks_open; ++i, channel += 8) {
        const uint32_t *const rows = paired_rows + open_blocks[i] * size;
        if (found <= SPQ_MOST_PAIRED)
            add_pairs(rows, times, end, plus, to, channel, begins);
        else
            add_widely(rows, times, end, plus, to, channel, begins);
    }
}

/* Chooses the rows of a time step: those of the open channels are put together in RAM, without gaps, where they find
 * room there; otherwise they are those in the table, of blocks that have an open channel. */
static SPQ_ALONE void choose_pairs(const spq_fast *l)
{
    const uint32_t rows = l->rows;
    uint32_t count = 0, c, i;
    /*@COMPACT@*/
    uint32_t row;
    for (c = 0; c < l->channels; ++c)
        if (is_open[c])
            paired_channels[count++] = (uint16_t)c;
    blocks_open = (count + 7u) / 8u;
    if (l->gate && blocks_open * 2u * rows <= SPQ_MOST_COMPACT) {
        for (c = count; c < 8u * blocks_open; ++c)
            paired_channels[c] = l->channels; /* what fills up the last block goes behind the sums */
        for (i = 0; i < blocks_open; ++i)
            open_blocks[i] = (uint8_t)i;
        paired_rows = compact_rows;
        for (i = 0; i < 2u * blocks_open; ++i) {
            uint32_t *to = compact_rows + i / 2u * 2u * rows + i % 2u;
            const uint32_t *from[4];
            uint32_t shift[4];
            for (c = 0; c < 4; ++c) {
                const uint32_t place = paired_channels[4u * i + c], channel = place < l->channels ? place : 0;
                from[c] = l->weights + channel / 8u * 2u * rows + channel / 4u % 2u;
                shift[c] = 8u * (channel % 4u);
            }
            for (row = 0; row < 2u * rows; row += 2)
                to[row] = (from[0][row] >> shift[0] & 255u) | (from[1][row] >> shift[1] & 255u) << 8 |
                          (from[2][row] >> shift[2] & 255u) << 16 | from[3][row] >> shift[3] << 24;
        }
        return;
    }
    /*@END@*/
    paired_rows = l->weights;
    for (blocks_open = 0, c = 0; c < l->channels; c += 8) {
        uint32_t any = 0;
        for (i = c; i < c + 8u; ++i)
            any |= is_open[i];
        if (!any)
            continue;
        for (i = c; i < c + 8u; ++i)
            paired_channels[8u * blocks_open + i - c] = (uint16_t)i;
        open_blocks[blocks_open++] = (uint8_t)(c / 8u);
    }
    (void)count;
    (void)rows;
}

