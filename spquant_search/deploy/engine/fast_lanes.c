/* ---------------------------------------------------------------- fast: sums in lanes
 *
 * For weights of 3 and 4 bits. A word has eight codes of four bits. They are added to lanes of a byte, four a word,
 * which hold values of up to 18 in all; what these have is added to pairs of 16 bits before more would not fit. Words
 * whose channels are all closed are left out. */

static SPQ_INLINE void empty_bytes(uint32_t *to, uint32_t lanes_of_bytes)
{
    to[0] += lanes_of_bytes & 0x00ff00ffu;
    to[1] += lanes_of_bytes >> 8 & 0x00ff00ffu;
}

static SPQ_INLINE void set_sums(uint32_t *to, uint32_t plus, uint32_t begins)
{
    if (begins) {
        to[0] = to[1] = to[2] = to[3] = plus;
    } else {
        to[0] += plus;
        to[1] += plus;
        to[2] += plus;
        to[3] += plus;
    }
}

/* Adds the list, 2^level times, to the sums of one word of channels, or with `both` to those of two. */
static SPQ_INLINE void add_lanes(const spq_fast *l, uint32_t level, const uint16_t *end, const uint32_t *rows,
                                 uint32_t *to, const uint32_t *other_rows, uint32_t *to_other, const int both)
{
    const uint16_t *at = list;
    /* The mask is read from the layer: a constant would not stand in one instruction with a shift. */
    const uint32_t mask = l->mask, most = l->limit >> level;
    uint32_t times = (uint32_t)1 << level; /* a product and a sum are one instruction, a shift is one more */
    uint32_t a = 0, b = 0, c = 0, d = 0;
    SPQ_IN_REGISTER(times);
    while (at != end) {
        const uint16_t *const stop = (uint32_t)(end - at) < most ? end : at + most;
        do {
            const uint32_t row = *at++, w = rows[row];
            a += (w & mask) * times;
            b += (w >> 4 & mask) * times;
            if (both) {
                const uint32_t v = other_rows[row];
                c += (v & mask) * times;
                d += (v >> 4 & mask) * times;
            }
        } while (at != stop);
        empty_bytes(to, a);
        empty_bytes(to + 2, b);
        if (both) {
            empty_bytes(to_other, c);
            empty_bytes(to_other + 2, d);
        }
        a = b = c = d = 0;
    }
}

/* Adds the list to the sums of all words that have an open channel, two at once: the list is read half as often. The
 * first time, sums begin with `plus`; later that is added. */
static SPQ_ALONE void add_list_in_lanes(const spq_fast *l, uint32_t level, const uint16_t *end, uint32_t plus,
                                        uint32_t *sum, const uint32_t begins)
{
    const uint8_t *block = open_blocks, *const blocks_end = block + blocks_open;
    for (; block + 1 < blocks_end; block += 2) {
        uint32_t *to = sum + 4u * block[0], *other = sum + 4u * block[1];
        set_sums(to, plus, begins);
        set_sums(other, plus, begins);
        add_lanes(l, level, end, l->weights + block[0] * l->rows, to, l->weights + block[1] * l->rows, other, 1);
    }
    if (block != blocks_end) {
        set_sums(sum + 4u * block[0], plus, begins);
        add_lanes(l, level, end, l->weights + block[0] * l->rows, sum + 4u * block[0], 0, 0, 0);
    }
}

