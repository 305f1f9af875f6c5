/* ---------------------------------------------------------------- fast: layers */

/* Makes what sums are multiplied with, and what is added then, in this time step; and finds out what is open. */
static SPQ_ALONE void prepare(const spq_fast *l)
{
    const uint32_t bias = l->wide ? 0u : 0x8000u;
    uint32_t c, o = 0;
    /*@WORDS@*/
    const uint32_t bits = l->membrane_bits;
    uint32_t fields = 0;
    /*@END@*/
    memset(is_open, 1, l->channels);
    /*@FAST_GATES@*/
#ifndef SPQ_FORCE_OPEN
    if (l->gate)
        predict_fast(l);
#endif
    /*@END@*/
    for (c = 0; c < l->group; ++c, o = o + 1u == l->channels ? 0 : o + 1u) {
        const uint32_t factor = is_open[o] ? (uint32_t)(int32_t)l->slope[o] * l->times : 0u;
        const uint32_t offset = is_open[o] ? (uint32_t)l->offset[o] * l->times : 0u;
        effects[c] = (uint64_t)(uint32_t)(offset - factor * bias - l->less) << 32 | factor;
        /*@WORDS@*/
        if (l->neurons == SPQ_WORDS_OF_CODES) {
            fields = fields << bits | (uint32_t)is_open[o] << (bits - 1u);
            if ((c + 1u) * bits % 32u == 0)
                open_words[c * bits / 32u] = fields;
        }
        /*@END@*/
    }
    /*@LANES@*/
    if (l->kind == SPQ_LANES)
        for (blocks_open = 0, c = 0; c < l->channels; c += 8) {
            uint32_t any = 0;
            for (o = c; o < c + 8u; ++o)
                any |= is_open[o];
            if (any)
                open_blocks[blocks_open++] = (uint8_t)(c / 8u);
        }
    /*@END@*/
    /*@PAIRS@*/
    if (l->kind == SPQ_PAIRS)
        choose_pairs(l);
    /*@END@*/
}

/* Lets the neurons from `first` on, a group of them, take the sums that are there. */
static void fire_group(const spq_fast *l, uint32_t first)
{
    const uint32_t count = l->group, all = (uint32_t)l->height * l->width * l->channels;
    const uint32_t bytes = (all - first < count ? all - first : count) / 8u;
    uint8_t *to = l->spikes + first / 8u;
    uint32_t i;
    switch (l->fires) {
    /*@FIRES@*/
    default:
        break;
    }
    for (i = 0; i + 4u <= bytes; i += 4)
        store(to + i, fired_words[i / 4u]);
    for (; i < bytes; ++i)
        to[i] = (uint8_t)(fired_words[i / 4u] >> (24u - 8u * (i % 4u)));
}

/*@CONVOLUTIONS@*/
/* A convolution of 3x3 on spikes. */
static SPQ_ALONE void fast_convolution(const spq_fast *l)
{
    const uint32_t levels = l->pools ? 3 : 1;
    uint32_t row, column, at = 0, first = 0, level;
    uint32_t *sum = fast_sums, *const end = fast_sums + (l->wide ? l->group : l->group / 2u);
    prepare(l);
    for (row = 0; row < l->height; ++row) {
        /*@SUMS_2X2@*/
        if (l->pools)
            next_sums_2x2(l, row);
        /*@END@*/
        for (column = 0; column < l->width; ++column, ++at) {
            uint32_t total = 0;
            for (level = levels; level--;) {
                uint16_t *end_of_list;
                uint32_t found;
                /*@SUMS_2X2@*/
                if (l->pools)
                    end_of_list = list_sums(l, column, level);
                else
                    end_of_list = list_spikes(l, row, column);
                /*@ELSE@*/
                end_of_list = list_spikes(l, row, column);
                /*@END@*/
                found = (uint32_t)(end_of_list - list) << level;
                if (!found && level + 1u != levels)
                    continue;
                total += found;
                /*@SLICES@*/
                if (l->kind == SPQ_SLICES)
                    add_list_in_slices(l, level + (l->bits == 1 ? 1u : 0u), end_of_list);
                /*@END@*/
                /*@LANES@*/
                if (l->kind == SPQ_LANES)
                    add_list_in_lanes(l, level, end_of_list, ((level + 1u == levels ? 0x8000u : 0u) - found * l->zero) *
                                      0x10001u, sum, level + 1u == levels);
                /*@END@*/
                /*@PAIRS@*/
                if (l->kind == SPQ_PAIRS)
                    add_list_in_pairs(l, level, end_of_list, sum, level + 1u == levels);
                /*@END@*/
            }
            SPQ_COUNT_POSITION(l, at, total);
            /*@SLICES@*/
            if (l->kind == SPQ_SLICES)
                sums_of_slices(l, total, (0x8000u - total * l->zero) * 0x10001u, sum);
            /*@END@*/
            sum += l->wide ? l->channels : l->channels / 2u;
            if (sum == end) {
                fire_group(l, first);
                first += l->group;
                sum = fast_sums;
            }
        }
    }
    if (sum != fast_sums)
        fire_group(l, first);
    SPQ_TRACE_LAYER(l->number, l->spikes, at * l->channels / 8u);
}

/*@END@*/
/*@FIRST@*/
/* Adds the weights of what is set under the kernel, times its counts, to pairs of 16 bits. */
static SPQ_INLINE void sums_of_counts(const spq_fast *l, uint32_t seen, int32_t corner, const uint16_t *places,
                                      uint32_t *to, const int bytes)
{
    const uint32_t *rows = l->weights;
    const uint32_t mask = l->mask;
    uint32_t first;
    for (first = 0; first < l->channels; first += 8, to += 4, rows += bytes ? 2u * l->rows : l->rows) {
        uint32_t set = seen, total = 0, a = 0, b = 0, c = 0, d = 0;
        while (set) {
            const uint32_t place = take(&set);
            uint32_t value = input[corner + (int32_t)places[place]];
            value = value < SPQ_LARGEST ? value : SPQ_LARGEST;
            total += value;
            if (bytes) {
                const uint32_t w = rows[2u * place], v = rows[2u * place + 1u];
                a += (w & mask) * value;
                b += (w >> 8 & mask) * value;
                c += (v & mask) * value;
                d += (v >> 8 & mask) * value;
            } else {
                const uint32_t w = rows[place];
                a += (w & mask) * value;
                b += (w >> 4 & mask) * value;
                c += (w >> 8 & mask) * value;
                d += (w >> 12 & mask) * value;
            }
        }
        total = (0x8000u - total * l->zero) * 0x10001u;
        to[0] = a + total;
        to[1] = b + total;
        to[2] = c + total;
        to[3] = d + total;
    }
}

/* A layer that reads the frame, a convolution of 3x3 on counts of up to three channels. What is not zero under the kernel is one
 * word, put together from those of its three columns: from the lowest bit on, column by column, row by row. */
static SPQ_ALONE void first_layer(const spq_fast *l)
{
    const uint32_t inputs = l->in_channels, width = l->in_width;
    uint32_t row, x, i, c, k = 9u * inputs, first = 0;
    uint32_t *sum = fast_sums, *const end = fast_sums + l->group / 2u;
    uint16_t places[27];
    prepare(l);
    for (x = 0; x < 3; ++x)
        for (i = 0; i < 3; ++i)
            for (c = 0; c < inputs; ++c)
                places[--k] = (uint16_t)((i * width + x) * inputs + c);
    memset(columns_seen, 0, sizeof columns_seen[0] * (width + 2u));
    for (row = 0; row <= l->height; ++row) {
        const uint8_t *pixel = input + row * width * inputs;
        uint32_t seen;
        for (x = 1; x <= width; ++x) {
            uint32_t set = columns_seen[x] >> inputs;
            if (row < l->in_height)
                for (c = 0; c < inputs; ++c)
                    set |= (uint32_t)(*pixel++ != 0) << (2u * inputs + c);
            columns_seen[x] = set;
        }
        if (row == 0)
            continue;
        seen = columns_seen[1] << (6u * inputs);
        for (x = 0; x < l->width; ++x) {
            const int32_t corner = ((int32_t)(row * width + x) - (int32_t)(2u * width + 1u)) * (int32_t)inputs;
            seen = seen >> (3u * inputs) | columns_seen[x + 2u] << (6u * inputs);
#ifdef SPQ_COUNT
            {
                uint32_t set = seen, found = 0;
                for (; set; set &= set - 1u)
                    ++found;
                SPQ_COUNT_POSITION(l, (row - 1u) * l->width + x, found);
            }
#endif
            /*@COUNTS_8@*/
            if (l->kind == SPQ_COUNTS_8)
                sums_of_counts(l, seen << (32u - 9u * inputs), corner, places, sum, 1);
            /*@END@*/
            /*@COUNTS_4@*/
            if (l->kind == SPQ_COUNTS_4)
                sums_of_counts(l, seen << (32u - 9u * inputs), corner, places, sum, 0);
            /*@END@*/
            sum += l->channels / 2u;
            if (sum == end) {
                fire_group(l, first);
                first += l->group;
                sum = fast_sums;
            }
        }
    }
    if (sum != fast_sums)
        fire_group(l, first);
    SPQ_TRACE_LAYER(l->number, l->spikes, (uint32_t)l->height * l->width * l->channels / 8u);
}

/*@END@*/
