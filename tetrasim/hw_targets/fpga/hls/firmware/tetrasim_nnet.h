// Layers that hls4ml does not have, in fixed point with exact intermediate values.
//
// Every kernel computes what the numpy function of the same name in tetrasim's emulate.py computes, bit for bit:
// intermediate types are wide enough to be exact, and each rounding is a conversion to an AP_RND, AP_SAT type that
// the configuration names. Licence: Apache-2.0.
#ifndef TETRASIM_NNET_H_
#define TETRASIM_NNET_H_

#include "nnet_common.h"

namespace nnet {

// Raw bits of a fixed-point number as a signed integer.
template <class T> ap_int<T::width> ts_raw(const T &x) {
    #pragma HLS INLINE
    ap_int<T::width> r;
    r.range(T::width - 1, 0) = x.range(T::width - 1, 0);
    return r;
}

template <class T> ap_int<T::width + 1> ts_raw_unsigned(const T &x) {
    #pragma HLS INLINE
    ap_int<T::width + 1> r = 0;
    r.range(T::width - 1, 0) = x.range(T::width - 1, 0);
    return r;
}

// y[i] = x[index(i)], 0 for index -1.
template <class x_T, class res_T, typename CONFIG_T> void ts_select(x_T x[CONFIG_T::n_in], res_T y[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        int at = CONFIG_T::index(i);
        y[i] = at < 0 ? res_T(0) : res_T(x[at < 0 ? 0 : at]);
    }
}

template <class a_T, class b_T, class res_T, typename CONFIG_T>
void ts_concat(a_T a[CONFIG_T::n_a], b_T b[CONFIG_T::n_b], res_T y[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        int at = CONFIG_T::index(i);
        y[i] = at < (int)CONFIG_T::n_a ? res_T(a[at < (int)CONFIG_T::n_a ? at : 0])
                                       : res_T(b[at < (int)CONFIG_T::n_a ? 0 : at - CONFIG_T::n_a]);
    }
}

template <class a_T, class b_T, class res_T, typename CONFIG_T>
void ts_add(a_T a[CONFIG_T::n_out], b_T b[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_out; i++)
        y[i] = a[i] + b[i];
}

template <class a_T, class b_T, class res_T, typename CONFIG_T>
void ts_sub(a_T a[CONFIG_T::n_out], b_T b[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_out; i++)
        y[i] = a[i] - b[i];
}

template <class a_T, class b_T, class res_T, typename CONFIG_T>
void ts_mul(a_T a[CONFIG_T::n_out], b_T b[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
    for (unsigned i = 0; i < CONFIG_T::n_out; i++)
        y[i] = a[i] * b[i];
}

// y = x * scale(i) + offset(i).
template <class x_T, class res_T, typename CONFIG_T> void ts_affine(x_T x[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        typename CONFIG_T::wide_t t = x[i] * CONFIG_T::scale(i);
        y[i] = typename CONFIG_T::wide_t(t + CONFIG_T::offset(i));
    }
}

// A function by table over [-reach, reach), nearest entry.
template <class x_T, class res_T, typename CONFIG_T> void ts_lookup(x_T x[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        ap_fixed<64, 40> t = x[i];
        t = t << CONFIG_T::shift;
        t = t + ap_fixed<64, 40>(0.5);
        ap_int<40> at;
        at.range(39, 0) = t.range(63, 24);
        at = at + (int)(CONFIG_T::entries / 2);
        if (at < 0)
            y[i] = CONFIG_T::below();
        else if (at >= (int)CONFIG_T::entries)
            y[i] = CONFIG_T::identity_above ? res_T(x[i]) : res_T(CONFIG_T::above());
        else
            y[i] = CONFIG_T::table(at.to_int());
    }
}

// Softmax of one row: maximum, exp table, exact sum, reciprocal table of the mantissa.
template <class x_T, class p_T, typename CONFIG_T, unsigned N>
void ts_softmax_row(const x_T x[N], const bool seen[N], p_T y[N]) {
    #pragma HLS INLINE
    typedef ap_ufixed<18, 1> exp_t;
    x_T top = x[0];
    bool any = seen[0];
    for (unsigned j = 1; j < N; j++) {
        #pragma HLS UNROLL
        if (seen[j] && (!any || x[j] > top))
            top = x[j];
        any = any || seen[j];
    }
    exp_t e[N];
    #pragma HLS ARRAY_PARTITION variable = e complete
    ap_ufixed<18 + CONFIG_T::log2_cols, 1 + CONFIG_T::log2_cols> sum = 0;
    for (unsigned j = 0; j < N; j++) {
        #pragma HLS UNROLL
        e[j] = 0;
        if (seen[j]) {
            ap_fixed<64, 40> t = top - x[j];
            t = t << CONFIG_T::exp_shift;
            t = t + ap_fixed<64, 40>(0.5);
            ap_int<40> at;
            at.range(39, 0) = t.range(63, 24);
            if (at < (int)CONFIG_T::entries)
                e[j] = CONFIG_T::exp_table(at.to_int());
        }
        sum += e[j];
    }
    unsigned octave = 0;
    for (unsigned k = 0; k < CONFIG_T::log2_cols; k++) {
        #pragma HLS UNROLL
        if (sum >= 2) {
            sum = sum >> 1;
            octave++;
        }
    }
    exp_t mantissa = sum;
    ap_uint<17> fraction;
    fraction.range(16, 0) = mantissa.range(16, 0);
    exp_t inverse = CONFIG_T::inv_table((fraction >> (17 - CONFIG_T::log2_entries)).to_int());
    for (unsigned j = 0; j < N; j++) {
        #pragma HLS UNROLL
        ap_ufixed<36 + CONFIG_T::log2_cols, 2> q = e[j] * inverse;
        q = q >> octave;
        y[j] = q;
    }
}

template <class x_T, class res_T, typename CONFIG_T> void ts_softmax(x_T x[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    static const unsigned N = CONFIG_T::cols;
    x_T row[N];
    res_T out[N];
    bool seen[N];
    #pragma HLS ARRAY_PARTITION variable = row complete
    #pragma HLS ARRAY_PARTITION variable = out complete
    for (unsigned r = 0; r < CONFIG_T::n_out / N; r++) {
        #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
        for (unsigned j = 0; j < N; j++) {
            row[j] = x[r * N + j];
            seen[j] = true;
        }
        ts_softmax_row<x_T, res_T, CONFIG_T, N>(row, seen, out);
        for (unsigned j = 0; j < N; j++)
            y[r * N + j] = out[j];
    }
}

// softmax(scale q k^T + masks) v of query row i for all heads; its elements start at q[from], m[above]
// and y[to].
template <class q_T, class k_T, class v_T, class m_T, class res_T, typename CONFIG_T>
void ts_attention_row(const q_T *q, unsigned from, const k_T *k, const v_T *v, const m_T *m, unsigned above,
                      res_T *y, unsigned to, unsigned i) {
    #pragma HLS INLINE
    static const unsigned N = CONFIG_T::kv_len;
    for (unsigned h = 0; h < CONFIG_T::heads; h++) {
        #pragma HLS UNROLL
        const unsigned g = h * CONFIG_T::kv_heads / CONFIG_T::heads;
        typename CONFIG_T::score_t s[N];
        typename CONFIG_T::prob_t p[N];
        bool seen[N];
        #pragma HLS ARRAY_PARTITION variable = s complete
        #pragma HLS ARRAY_PARTITION variable = p complete
        #pragma HLS ARRAY_PARTITION variable = seen complete
        for (unsigned j = 0; j < N; j++) {
            #pragma HLS UNROLL
            typename CONFIG_T::qk_t sum = 0;
            for (unsigned d = 0; d < CONFIG_T::head_dim; d++) {
                #pragma HLS UNROLL
                sum += q[from + h * CONFIG_T::qh + d * CONFIG_T::qd] *
                       k[g * CONFIG_T::kh + j * CONFIG_T::ks + d * CONFIG_T::kd];
            }
            const unsigned at = CONFIG_T::keyed ? above + j : 0;
            const bool shown = !CONFIG_T::keyed || m[at] > m_T(CONFIG_T::hidden());
            if (CONFIG_T::keyed && shown)
                s[j] = sum * CONFIG_T::scale() + CONFIG_T::bias(h, i, j) + m[at];
            else
                s[j] = sum * CONFIG_T::scale() + CONFIG_T::bias(h, i, j);
            seen[j] = shown && CONFIG_T::sees(h, i, j);
        }
        ts_softmax_row<typename CONFIG_T::score_t, typename CONFIG_T::prob_t, CONFIG_T, N>(s, seen, p);
        for (unsigned d = 0; d < CONFIG_T::v_head_dim; d++) {
            #pragma HLS UNROLL
            typename CONFIG_T::pv_t sum = 0;
            for (unsigned j = 0; j < N; j++) {
                #pragma HLS UNROLL
                sum += p[j] * v[g * CONFIG_T::vh + j * CONFIG_T::vs + d * CONFIG_T::vd];
            }
            y[to + h * CONFIG_T::oh + d * CONFIG_T::od] = sum;
        }
    }
}

// All query rows, one per initiation.
template <class q_T, class k_T, class v_T, class res_T, typename CONFIG_T>
void ts_attention(q_T q[CONFIG_T::n_q], k_T k[CONFIG_T::n_k], v_T v[CONFIG_T::n_v], res_T y[CONFIG_T::n_out]) {
    for (unsigned i = 0; i < CONFIG_T::q_len; i++) {
        #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
        const ap_int<2> none[1] = {0};
        ts_attention_row<q_T, k_T, v_T, ap_int<2>, res_T, CONFIG_T>(q, i * CONFIG_T::qs, k, v, none, 0, y,
                                                                    i * CONFIG_T::os, i);
    }
}

template <class q_T, class k_T, class v_T, class m_T, class res_T, typename CONFIG_T>
void ts_attention_keyed(q_T q[CONFIG_T::n_q], k_T k[CONFIG_T::n_k], v_T v[CONFIG_T::n_v], m_T m[CONFIG_T::n_m],
                        res_T y[CONFIG_T::n_out]) {
    for (unsigned i = 0; i < CONFIG_T::q_len; i++) {
        #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
        ts_attention_row<q_T, k_T, v_T, m_T, res_T, CONFIG_T>(q, i * CONFIG_T::qs, k, v, m,
                                                               i * CONFIG_T::kv_len, y, i * CONFIG_T::os, i);
    }
}

// Row i of group g of a batched product; its elements start at a[from] and y[to].
template <class a_T, class b_T, class res_T, typename CONFIG_T>
void ts_product_row(const a_T *a, unsigned from, const b_T *b, unsigned g, res_T *y, unsigned to) {
    #pragma HLS INLINE
    for (unsigned j = 0; j < CONFIG_T::n; j++) {
        #pragma HLS UNROLL
        typename CONFIG_T::sum_t sum = 0;
        for (unsigned d = 0; d < CONFIG_T::k; d++) {
            #pragma HLS UNROLL
            sum += a[from + d] * b[(g * CONFIG_T::k + d) * CONFIG_T::n + j];
        }
        y[to + j] = sum;
    }
}

// Batched product of two run-time arrays.
template <class a_T, class b_T, class res_T, typename CONFIG_T>
void ts_product(a_T a[CONFIG_T::n_a], b_T b[CONFIG_T::n_b], res_T y[CONFIG_T::n_out]) {
    for (unsigned g = 0; g < CONFIG_T::groups; g++) {
        for (unsigned i = 0; i < CONFIG_T::m; i++) {
            #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
            const unsigned row = g * CONFIG_T::m + i;
            ts_product_row<a_T, b_T, res_T, CONFIG_T>(a, row * CONFIG_T::k, b, g, y, row * CONFIG_T::n);
        }
    }
}

// LayerNorm and RMSNorm: the squared sum is 4^octave * mantissa, 1/sqrt(mantissa) comes from a table.
template <class x_T, class res_T, typename CONFIG_T> void ts_norm(x_T x[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    static const unsigned N = CONFIG_T::cols;
    typedef typename CONFIG_T::deviation_t dev_t;
    for (unsigned r = 0; r < CONFIG_T::n_out / N; r++) {
        #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
        typename CONFIG_T::sum_t sum = 0;
        for (unsigned j = 0; j < N; j++)
            sum += x[r * N + j];
        typename CONFIG_T::mean_t mean = CONFIG_T::centred ? typename CONFIG_T::mean_t(sum * CONFIG_T::count())
                                                           : typename CONFIG_T::mean_t(0);
        dev_t deviation[N];
        #pragma HLS ARRAY_PARTITION variable = deviation complete
        ap_uint<56> total = CONFIG_T::epsilon();
        for (unsigned j = 0; j < N; j++) {
            deviation[j] = x[r * N + j] - mean;
            ap_int<dev_t::width> raw = ts_raw(deviation[j]);
            ap_int<2 * dev_t::width> square = raw * raw;
            total += ap_uint<56>(square);
        }
        unsigned octave = 0;
        for (unsigned k = 1; k < 28; k++)
            if ((total >> (2 * k)) != 0)
                octave = k;
        ap_uint<56> mantissa = octave > 10 ? ap_uint<56>(total >> (2 * octave - 20)) : ap_uint<56>(total << (20 - 2 * octave));
        ap_ufixed<18, 1> inverse = CONFIG_T::rsqrt_table((mantissa >> (22 - CONFIG_T::log2_entries)).to_int());
        for (unsigned j = 0; j < N; j++) {
            ap_fixed<dev_t::width + 50, dev_t::width + 3> wide = 0;
            ap_int<dev_t::width + 19> flat = ts_raw(deviation[j]) * ts_raw_unsigned(inverse);
            ap_int<dev_t::width + 50> moved = flat;
            moved = moved << (30 - octave);
            wide.range(dev_t::width + 49, 0) = moved.range(dev_t::width + 49, 0);
            typename CONFIG_T::unit_t unit = wide;
            y[r * N + j] = typename CONFIG_T::wide_t(unit * CONFIG_T::scale(j) + CONFIG_T::offset(j));
        }
    }
}

// x * factor / 2**drop in one rounding, for element i of the constants; into a grid's range where there is one.
template <class x_T, class res_T, typename CONFIG_T> res_T ts_rescaled(const x_T &x, unsigned i) {
    #pragma HLS INLINE
    static const int W = x_T::width + 1 + CONFIG_T::factor_bits;
    ap_fixed<x_T::width + 1, x_T::iwidth + 1> wide = x;
    ap_int<W> product = ts_raw(wide) * ts_raw(CONFIG_T::factor(i));
    ap_fixed<W, W - CONFIG_T::drop> scaled;
    scaled.range(W - 1, 0) = product.range(W - 1, 0);
    res_T y = scaled;
    if (CONFIG_T::clips && y < res_T(CONFIG_T::low))
        y = CONFIG_T::low;
    if (CONFIG_T::clips && y > res_T(CONFIG_T::high))
        y = CONFIG_T::high;
    return y;
}

template <class x_T, class res_T, typename CONFIG_T> void ts_rescale(x_T x[CONFIG_T::n_out], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
    for (unsigned i = 0; i < CONFIG_T::n_out; i++)
        y[i] = ts_rescaled<x_T, res_T, CONFIG_T>(x[i], i % CONFIG_T::period);
}

// Over the middle of [outer, n, inner].
template <class x_T, class res_T, typename CONFIG_T> void ts_sum(x_T x[CONFIG_T::n_in], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
    for (unsigned o = 0; o < CONFIG_T::outer; o++) {
        for (unsigned i = 0; i < CONFIG_T::inner; i++) {
            typename CONFIG_T::sum_t sum = 0;
            for (unsigned j = 0; j < CONFIG_T::n; j++)
                sum += x[(o * CONFIG_T::n + j) * CONFIG_T::inner + i];
            y[o * CONFIG_T::inner + i] = sum * CONFIG_T::count();
        }
    }
}

template <class x_T, class res_T, typename CONFIG_T> void ts_max(x_T x[CONFIG_T::n_in], res_T y[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE
    for (unsigned o = 0; o < CONFIG_T::outer; o++) {
        for (unsigned i = 0; i < CONFIG_T::inner; i++) {
            x_T top = x[o * CONFIG_T::n * CONFIG_T::inner + i];
            for (unsigned j = 1; j < CONFIG_T::n; j++) {
                x_T other = x[(o * CONFIG_T::n + j) * CONFIG_T::inner + i];
                if (other > top)
                    top = other;
            }
            y[o * CONFIG_T::inner + i] = top;
        }
    }
}

// Rows of a constant table; ids outside are clamped.
template <class x_T, class res_T, typename CONFIG_T> void ts_embed(x_T x[CONFIG_T::n_in], res_T y[CONFIG_T::n_out]) {
    for (unsigned r = 0; r < CONFIG_T::n_in; r++) {
        #pragma HLS PIPELINE
        int id = x[r].to_int();
        id = id < 0 ? 0 : (id >= (int)CONFIG_T::rows ? (int)CONFIG_T::rows - 1 : id);
        for (unsigned j = 0; j < CONFIG_T::cols; j++)
            y[r * CONFIG_T::cols + j] = CONFIG_T::table(id * CONFIG_T::cols + j);
    }
}

} // namespace nnet

#endif
