/* ---------------------------------------------------------------- packed weights */

static inline uint32_t row_bytes(uint32_t columns, uint32_t bits)
{
    return bits == 3 ? (columns * 2u + 7u) / 8u + (columns + 7u) / 8u : (columns * bits + 7u) / 8u;
}

static inline uint32_t field_at(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t column)
{
    const uint32_t slots = 8u / bits, q = (columns + slots - 1u) / slots;
    return row[column % q] >> (column / q * bits) & ((1u << bits) - 1u);
}

static inline uint32_t code_at(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t column)
{
    if (bits == 3)
        return field_at(row, columns, 2, column) | field_at(row + (columns * 2u + 7u) / 8u, columns, 1, column) << 2;
    return field_at(row, columns, bits, column);
}

/*@PLAIN@*/
/* Returns the largest code of so many bits. */
static inline uint32_t largest_code(uint32_t bits) { return bits == 1 ? 1u : (1u << bits) - 2u; }

static inline void empty_lanes(uint32_t columns, uint32_t bits)
{
    uint32_t c;
    if (bits == 8)
        return;
    for (c = 0; c < columns; ++c)
        sums[c] = (spq_sum)(sums[c] + lanes[c]);
    memset(lanes, 0, columns);
    lanes_left = 255u / largest_code(bits);
}

/* Adds `value` times the codes of one slot of a word's bytes to as many lanes: no lane overflows into the next. */
#define SPQ_ADD_WORD(type, ones, lane, word, shift, mask, up, value)                                   \
    do {                                                                                               \
        type held;                                                                                     \
        memcpy(&held, lane, sizeof held);                                                              \
        held = (type)(held + ((((word) >> (shift)) & (type)((mask) * (ones))) << (up)) * (type)(value)); \
        memcpy(lane, &held, sizeof held);                                                              \
    } while (0)

/* Adds `value` times one field of a row's codes to the lanes, a word of them at once. */
static inline void add_field(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t up, uint32_t value)
{
    const uint32_t slots = 8u / bits, q = (columns + slots - 1u) / slots, mask = (1u << bits) - 1u;
    uint32_t slot, j = 0;
    if (slots * q == columns) {
        for (; j + 4u <= q; j += 4u) {
            uint32_t word;
            memcpy(&word, row + j, sizeof word);
            for (slot = 0; slot < slots; ++slot) {
                uint8_t *lane = lanes + slot * q + j;
                SPQ_IN_REGISTER(lane); /* a compiler would warn of places that no layer's sizes lead to */
                SPQ_ADD_WORD(uint32_t, 0x01010101u, lane, word, slot * bits, mask, up, value);
            }
        }
    }
    for (; j < q; ++j)
        for (slot = 0; slot < slots && slot * q + j < columns; ++slot) {
            uint8_t *lane = lanes + slot * q + j;
            *lane = (uint8_t)(*lane + ((row[j] >> (slot * bits) & mask) << up) * value);
        }
}

static inline void add_row(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t value)
{
    uint32_t c;
    if (bits == 8) {
        for (c = 0; c < columns; ++c)
            sums[c] = (spq_sum)(sums[c] + row[c] * value);
        return;
    }
    if (value > lanes_left) {
        empty_lanes(columns, bits);
        if (value > lanes_left) { /* it does not fit into an empty lane either */
            for (c = 0; c < columns; ++c)
                sums[c] = (spq_sum)(sums[c] + code_at(row, columns, bits, c) * value);
            return;
        }
    }
    lanes_left -= value;
    if (bits == 3) {
        add_field(row, columns, 2, 0, value);
        add_field(row + (columns * 2u + 7u) / 8u, columns, 1, 2, value);
    } else {
        add_field(row, columns, bits, 0, value);
    }
}

/*@END@*/
/* Returns what is added to a weight to get its code; a code of one bit is the sign of the weight. */
static inline int32_t code_offset(uint32_t bits) { return bits <= 2 ? 1 : ((int32_t)1 << (bits - 1u)) - 1; }

