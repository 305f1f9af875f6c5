/* ---------------------------------------------------------------- maps */

static uint32_t bytes_of(uint32_t channels) { return (channels + 7u) / 8u; }

static uint32_t lowest_bit(uint32_t set)
{
#ifdef __GNUC__
    return (uint32_t)__builtin_ctzl(set);
#else
    uint32_t bit = 0;
    for (; !(set & 1u); set >>= 1)
        ++bit;
    return bit;
#endif
}

/* Writes the non-zero values of a pixel into the two arrays above; returns how many there are. */
static uint32_t events_at(const spq_map *map, uint32_t row, uint32_t column)
{
    uint32_t count = 0, channel, at;
    if (map->kind == SPQ_INPUT) {
        const uint8_t *pixel = input + (row * map->stored_width + column) * map->channels;
        for (channel = 0; channel < map->channels; ++channel)
            if (pixel[channel]) {
                event_channel[count] = (uint16_t)channel;
                event_value[count++] = pixel[channel] < map->largest ? pixel[channel] : map->largest;
            }
    } else if (map->kind == SPQ_WORDS) {
        const uint32_t *pixel = map->words + (row * map->stored_width + column) * map->channels;
        for (channel = 0; channel < map->channels; ++channel)
            if (pixel[channel]) {
                event_channel[count] = (uint16_t)channel;
                event_value[count++] = (uint16_t)pixel[channel];
            }
    } else if (map->kind == SPQ_BYTES) {
        const uint8_t *pixel = map->bytes + (row * map->stored_width + column) * map->channels;
        for (channel = 0; channel < map->channels; ++channel)
            if (pixel[channel]) {
                event_channel[count] = (uint16_t)channel;
                event_value[count++] = pixel[channel];
            }
    } else if (map->kind == SPQ_BITS) {
        const uint32_t size = bytes_of(map->channels);
        const uint8_t *pixel = map->bytes + (row * map->stored_width + column) * size;
        for (at = 0; at < size; ++at) {
            uint32_t any = pixel[at];
            for (; any; any &= any - 1u) {
                event_channel[count] = (uint16_t)(at * 8u + 7u - lowest_bit(any));
                event_value[count++] = 1;
            }
        }
    } else {
        const uint32_t size = bytes_of(map->channels);
        const uint8_t *upper = map->bytes + (2u * row * map->stored_width + 2u * column) * size;
        const uint8_t *lower = upper + map->stored_width * size;
        for (at = 0; at < size; ++at) {
            const uint32_t a = upper[at], b = upper[size + at], c = lower[at], d = lower[size + at];
            uint32_t any = a | b | c | d;
            for (; any; any &= any - 1u) {
                const uint32_t bit = lowest_bit(any);
                const uint32_t sum = (a >> bit & 1u) + (b >> bit & 1u) + (c >> bit & 1u) + (d >> bit & 1u);
                event_channel[count] = (uint16_t)(at * 8u + 7u - bit);
                event_value[count++] = (uint16_t)(map->kind == SPQ_BITS_MAX ? 1u : sum);
            }
        }
    }
    return count;
}

/*@PLAIN@*/
/* Adds a pixel's values, each times 2^up, to the potential of their channel. */
static void add_pixel(spq_potential *to, const spq_map *map, uint32_t row, uint32_t column, uint32_t up)
{
    const uint32_t count = events_at(map, row, column);
    uint32_t i;
    for (i = 0; i < count; ++i)
        to[event_channel[i]] += (spq_potential)event_value[i] * ((spq_potential)1 << up);
}

/*@END@*/
