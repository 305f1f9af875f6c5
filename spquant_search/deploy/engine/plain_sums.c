/* ---------------------------------------------------------------- plain: sums and currents */

/* Adds the row of each bit that is set; bit 31 has the first of the `rows`. Returns how many bits were set. */
static uint32_t add_rows(uint32_t set, const uint8_t *rows, uint32_t columns, uint32_t bits)
{
    uint32_t found = 0;
    for (; set; set &= set - 1u, ++found)
        add_row(rows + (31u - lowest_bit(set)) * row_bytes(columns, bits), columns, bits, 1);
    return found;
}

/* The inputs of one output position: how many are not zero, and the sum of their values. */
typedef struct {
    uint32_t found;
    uint32_t total;
} spq_gathered;

/* Gathers spikes whose channels fill whole bytes: the pixels under one row of the kernel are one string of bits, and
 * the rows of their weights follow each other in the same order. */
static void gather_bits(const spq_sums *s, uint32_t row, uint32_t first, uint32_t pixels,
                                   const uint8_t *rows, spq_gathered *g)
{
    const uint32_t size = row_bytes(s->channels, s->bits), bytes = pixels * (s->in.channels / 8u);
    const uint8_t *at = s->in.bytes + (row * s->in.stored_width + first) * (s->in.channels / 8u);
    uint32_t begin, found;
    for (begin = 0; begin < bytes; begin += 4) {
        uint32_t set = (uint32_t)at[begin] << 24;
        if (begin + 1u < bytes)
            set |= (uint32_t)at[begin + 1u] << 16;
        if (begin + 2u < bytes)
            set |= (uint32_t)at[begin + 2u] << 8;
        if (begin + 3u < bytes)
            set |= at[begin + 3u];
        found = add_rows(set, rows + (size_t)begin * 8u * size, s->channels, s->bits);
        g->found += found;
        g->total += found;
    }
}

/* Gathers the values of any other map, and of layers with groups, pixel by pixel. */
static void gather_events(const spq_sums *s, uint32_t row, uint32_t first, uint32_t pixels,
                                     const uint8_t *rows, uint32_t group, spq_gathered *g)
{
    const uint32_t inputs = s->in.channels / s->groups, outputs = s->channels / s->groups;
    const uint32_t size = row_bytes(s->channels, s->bits);
    uint32_t p, e, o;
    for (p = 0; p < pixels; ++p, rows += (size_t)inputs * size) {
        const uint32_t count = events_at(&s->in, row, first + p);
        for (e = 0; e < count; ++e) {
            const uint32_t channel = event_channel[e], value = event_value[e];
            if (s->groups == 1)
                add_row(rows + channel * size, s->channels, s->bits, value);
            else if (channel / inputs == group)
                for (o = group * outputs; o < (group + 1u) * outputs; ++o)
                    sums[o] = (spq_sum)(sums[o] + value * code_at(rows + channel % inputs * size, s->channels, s->bits,
                                                                  o));
            else
                continue;
            g->total += value;
            ++g->found;
        }
    }
}

/* Sums codes over the inputs under the kernel of one output, for the outputs of one group. */
static void gather(const spq_sums *s, uint32_t row, uint32_t column, uint32_t group, spq_gathered *g)
{
    const spq_window *k = &s->kernel;
    const uint32_t inputs = s->in.channels / s->groups, size = row_bytes(s->channels, s->bits);
    const uint32_t top = row * k->down, left = column * k->right, end = (uint32_t)s->in.width + k->before;
    const uint32_t from = left < k->before ? k->before - left : 0u; /* columns of the kernel that lie on the map */
    const uint32_t to = left + k->columns > end ? end - left : k->columns;
    uint32_t i;
    if (left >= end || from >= to)
        return;
    for (i = 0; i < k->rows; ++i) {
        const uint8_t *rows = s->weights + (size_t)(i * k->columns + from) * inputs * size;
        if (top + i < k->above || top + i - k->above >= s->in.height)
            continue;
        if (s->groups == 1 && s->in.kind == SPQ_BITS && s->in.channels % 8u == 0)
            gather_bits(s, top + i - k->above, left + from - k->before, to - from, rows, g);
        else
            gather_events(s, top + i - k->above, left + from - k->before, to - from, rows, group, g);
    }
}

/*@SUMS_UP@*/
/* Does the same for all outputs under a window. */
static void gather_window(const spq_sums *s, uint32_t row, uint32_t column, uint32_t group, spq_gathered *g)
{
    const spq_window *w = &s->summed->window;
    uint32_t i, j;
    for (i = 0; i < w->rows; ++i)
        for (j = 0; j < w->columns; ++j) {
            /* Above and before the map the numbers wrap around: they are larger than any map's. */
            const uint32_t r = row * w->down + i - w->above, c = column * w->right + j - w->before;
            if (r < s->summed->height && c < s->summed->width)
                gather(s, r, c, group, g);
        }
}

/*@END@*/
/* Adds the current of one position, a * A + d in the potential's fixed point, to one potential a channel. */
static void add_current(const spq_sums *s, uint32_t row, uint32_t column, spq_potential *to)
{
    const uint32_t outputs = s->channels / s->groups;
    const int32_t offset = code_offset(s->bits), times = s->bits == 1 ? 2 : 1;
    const spq_potential unit = (spq_potential)1 << s->up;
    uint32_t group, o;
    memset(sums, 0, sizeof sums[0] * s->channels);
    empty_lanes(s->channels, s->bits);
    for (group = 0; group < s->groups; ++group) {
        spq_gathered g = {0, 0};
        int32_t zero;
        /*@SUMS_UP@*/
        if (s->summed)
            gather_window(s, row, column, group, &g);
        else
            gather(s, row, column, group, &g);
        /*@ELSE@*/
        gather(s, row, column, group, &g);
        /*@END@*/
        zero = offset * (int32_t)g.total;
        SPQ_COUNT_GROUP(g.found, group * outputs, outputs);
        if (s->groups == 1)
            empty_lanes(s->channels, s->bits);
        for (o = group * outputs; o < (group + 1u) * outputs; ++o)
            to[o] += (s->slope[o] * (spq_potential)(times * (int32_t)sums[o] - zero) + s->offset[o]) * unit;
    }
}

/*@TAKES_LARGEST@*/
/* Gives each channel the largest of its currents under a window. */
static void largest_current(const spq_sums *s, const spq_outputs *outputs, uint32_t row, uint32_t column,
                                       spq_potential *to)
{
    static spq_potential one[SPQ_MOST_CHANNELS];
    const spq_window *w = &outputs->window;
    uint32_t i, j, o, any = 0;
    for (i = 0; i < w->rows; ++i)
        for (j = 0; j < w->columns; ++j) {
            const uint32_t r = row * w->down + i - w->above, c = column * w->right + j - w->before;
            if (r >= outputs->height || c >= outputs->width)
                continue;
            memset(one, 0, sizeof one[0] * s->channels);
            add_current(s, r, c, one);
            for (o = 0; o < s->channels; ++o)
                to[o] = any && to[o] > one[o] ? to[o] : one[o];
            any = 1;
        }
}

/*@END@*/
