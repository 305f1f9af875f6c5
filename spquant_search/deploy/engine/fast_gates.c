/* ---------------------------------------------------------------- fast: gates */

/* Counts the spikes of each channel. Words are added bit by bit to 32 counters that lie across words, two at a time. */
static SPQ_ALONE void count_channels(const spq_fast *l, uint16_t *counts)
{
    const uint32_t channels = l->in_channels, size = channels / 8u, bytes = (uint32_t)l->in_height * l->in_width * size;
    const uint32_t several = 32u % channels == 0; /* a word is of several pixels, or of one */
    const uint32_t stride = several ? 4u : size, words = (bytes + stride - 1u) / stride;
    uint32_t planes[16], first, i, c, used;
    memset(counts, 0, sizeof counts[0] * channels);
    for (first = 0; first < (several ? 32u : channels); first += 32) {
        const uint32_t kept = several || channels - first >= 32 ? 0xffffffffu : 0xffffffffu << (32u - (channels - first));
        const uint32_t rest = several && bytes % 4u ? 0xffffffffu << (32u - bytes % 4u * 8u) : kept;
        const uint8_t *at = l->in + first / 8u;
        uint32_t p0 = 0, p1 = 0, bit;
        memset(planes, 0, sizeof planes);
        for (i = 0; i < words; i += 2, at += 2u * stride) {
            const uint32_t odd_one = i + 1u == words;
            const uint32_t a = load(at) & (odd_one ? rest : kept);
            const uint32_t b = odd_one ? 0u : load(at + stride) & (i + 2u == words ? rest : kept);
            const uint32_t u = p0 ^ a, twos = (p0 & a) | (u & b);
            uint32_t carry = p1 & twos, *p;
            p0 = u ^ b;
            p1 ^= twos;
            for (p = planes + 2; carry; ++p) {
                const uint32_t held = *p;
                *p = held ^ carry;
                carry &= held;
            }
        }
        planes[0] = p0;
        planes[1] = p1;
        for (used = 16; used > 2 && !planes[used - 1u]; --used)
            ;
        for (c = 0, bit = 0x80000000u; c < 32 && (several || first + c < channels); ++c, bit >>= 1) {
            uint32_t number = 0;
            for (i = used; i--;)
                number = number * 2u + (planes[i] & bit ? 1u : 0u);
            counts[first + c % channels] = (uint16_t)(counts[first + c % channels] + number);
        }
    }
}

/* Decides which channels the gate opens, four at a time, from the channels that spiked; 128 is added to its weights. */
static SPQ_ALONE void predict_fast(const spq_fast *l)
{
    static uint16_t counts[SPQ_MOST_GATED], which[SPQ_MOST_GATED];
    const uint32_t channels = l->in_channels, outputs = l->channels;
    const uint32_t *words = l->gate;
    uint32_t i, o, spiked = 0, total = 0;
    count_channels(l, counts);
    for (i = 0; i < channels; ++i)
        if (counts[i]) {
            total += counts[i];
            counts[spiked] = counts[i];
            which[spiked++] = (uint16_t)i;
        }
    SPQ_COUNT_OPS((uint64_t)spiked * outputs);
    for (o = 0; o < outputs; o += 4, words += channels) {
        uint32_t a = 0, b = 0, c = 0, d = 0;
        for (i = 0; i < spiked; ++i) {
            const uint32_t w = words[which[i]], n = counts[i];
            a += (w & 255u) * n;
            b += (w >> 8 & 255u) * n;
            c += (w >> 16 & 255u) * n;
            d += (w >> 24) * n;
        }
        i = 128u * total;
        is_open[o] = spiked ? a > i : l->at_rest[o];
        is_open[o + 1u] = spiked ? b > i : l->at_rest[o + 1u];
        is_open[o + 2u] = spiked ? c > i : l->at_rest[o + 2u];
        is_open[o + 3u] = spiked ? d > i : l->at_rest[o + 3u];
    }
}

