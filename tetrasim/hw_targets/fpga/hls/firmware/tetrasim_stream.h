// The kernels of tetrasim_nnet.h on streams: a row per initiation, arithmetic by the same functions.
//
// Rows are nnet::array packs. What needs a whole array (keys and values, the second factor of a product) is
// collected by a process of its own, so that a ping-pong buffer lies between it and the rows that follow.
// Licence: Apache-2.0.
#ifndef TETRASIM_STREAM_H_
#define TETRASIM_STREAM_H_

#include "hls_stream.h"
#include "nnet_common.h"
#include "nnet_types.h"
#include "tetrasim_nnet.h"

namespace nnet {

// A configuration for one row of N elements.
template <class CONFIG_T, unsigned N> struct ts_row : public CONFIG_T {
    static const unsigned n_out = N;
    static const unsigned n_in = N;
    static const unsigned reuse_factor = 1;
};

// Which firing reads or writes: counters instead of divisions.
struct ts_pace {
    unsigned row;
    unsigned wait;
    ts_pace(unsigned first) : row(0), wait(first) {}
    bool fires(unsigned rows, unsigned every) {
        #pragma HLS INLINE
        if (row >= rows)
            return false;
        if (wait != 0) {
            wait--;
            return false;
        }
        wait = every - 1;
        return true;
    }
};

// One row to every stream that reads it: a fork costs no cycle of its own.
template <class T> void ts_write(const T &row, hls::stream<T> &y) {
    #pragma HLS INLINE
    y.write(row);
}

template <class T, class... more_T> void ts_write(const T &row, hls::stream<T> &y, more_T &...more) {
    #pragma HLS INLINE
    y.write(row);
    ts_write(row, more...);
}

// y[i] = x[index(i)], 0 for index -1: rows leave `lag` firings after the first one arrived.
template <class x_T, class res_T, typename CONFIG_T, class... out_T> void ts_select_stream(hls::stream<x_T> &x, out_T &...y) {
    typename x_T::value_type kept[CONFIG_T::n_in];
    #pragma HLS ARRAY_PARTITION variable = kept complete
    ts_pace in(0), out(CONFIG_T::lag);
    for (unsigned t = 0; t < CONFIG_T::firings; t++) {
        #pragma HLS PIPELINE II = 1
        if (in.fires(CONFIG_T::n_in / x_T::size, CONFIG_T::read_every)) {
            x_T row = x.read();
            for (unsigned j = 0; j < x_T::size; j++) {
                #pragma HLS UNROLL
                kept[in.row * x_T::size + j] = row[j];
            }
            in.row++;
        }
        if (out.fires(CONFIG_T::n_out / res_T::size, CONFIG_T::write_every)) {
            res_T row;
            PRAGMA_DATA_PACK(row)
            for (unsigned j = 0; j < res_T::size; j++) {
                #pragma HLS UNROLL
                int at = CONFIG_T::index(out.row * res_T::size + j);
                row[j] = at < 0 ? typename res_T::value_type(0) : typename res_T::value_type(kept[at < 0 ? 0 : at]);
            }
            ts_write(row, y...);
            out.row++;
        }
    }
}

// y[i] = a or b at index(i); each input at its own pace.
template <class a_T, class b_T, class res_T, typename CONFIG_T, class... out_T>
void ts_concat_stream(hls::stream<a_T> &a, hls::stream<b_T> &b, out_T &...y) {
    typename a_T::value_type kept_a[CONFIG_T::n_a];
    typename b_T::value_type kept_b[CONFIG_T::n_b];
    #pragma HLS ARRAY_PARTITION variable = kept_a complete
    #pragma HLS ARRAY_PARTITION variable = kept_b complete
    ts_pace in_a(0), in_b(0), out(CONFIG_T::lag);
    for (unsigned t = 0; t < CONFIG_T::firings; t++) {
        #pragma HLS PIPELINE II = 1
        if (in_a.fires(CONFIG_T::n_a / a_T::size, CONFIG_T::read_every)) {
            a_T row = a.read();
            for (unsigned j = 0; j < a_T::size; j++) {
                #pragma HLS UNROLL
                kept_a[in_a.row * a_T::size + j] = row[j];
            }
            in_a.row++;
        }
        if (in_b.fires(CONFIG_T::n_b / b_T::size, CONFIG_T::read_b_every)) {
            b_T row = b.read();
            for (unsigned j = 0; j < b_T::size; j++) {
                #pragma HLS UNROLL
                kept_b[in_b.row * b_T::size + j] = row[j];
            }
            in_b.row++;
        }
        if (out.fires(CONFIG_T::n_out / res_T::size, CONFIG_T::write_every)) {
            res_T row;
            PRAGMA_DATA_PACK(row)
            for (unsigned j = 0; j < res_T::size; j++) {
                #pragma HLS UNROLL
                int at = CONFIG_T::index(out.row * res_T::size + j);
                bool first = at < (int)CONFIG_T::n_a;
                row[j] = first ? typename res_T::value_type(kept_a[first ? at : 0])
                               : typename res_T::value_type(kept_b[first ? 0 : at - CONFIG_T::n_a]);
            }
            ts_write(row, y...);
            out.row++;
        }
    }
}

// Layers that map a row to a row, by the array kernel of the same name.
#define TS_ROW_STREAM(name)                                                                                  \
    template <class x_T, class res_T, typename CONFIG_T, class... out_T>                                     \
    void name##_stream(hls::stream<x_T> &x, out_T &...y) {                                         \
        for (unsigned r = 0; r < CONFIG_T::n_out / res_T::size; r++) {                                       \
            _Pragma("HLS PIPELINE II = 1")                                                                   \
            x_T in = x.read();                                                                               \
            res_T out;                                                                                       \
            PRAGMA_DATA_PACK(out)                                                                            \
            name<typename x_T::value_type, typename res_T::value_type, ts_row<CONFIG_T, res_T::size>>(       \
                in.data, out.data);                                                                          \
            ts_write(out, y...);                                                                                    \
        }                                                                                                    \
    }
TS_ROW_STREAM(ts_lookup)
TS_ROW_STREAM(ts_softmax)
TS_ROW_STREAM(ts_norm)
#undef TS_ROW_STREAM

#define TS_PAIR_STREAM(name)                                                                                 \
    template <class a_T, class b_T, class res_T, typename CONFIG_T, class... out_T>                                          \
    void name##_stream(hls::stream<a_T> &a, hls::stream<b_T> &b, out_T &...y) {                    \
        for (unsigned r = 0; r < CONFIG_T::n_out / res_T::size; r++) {                                       \
            _Pragma("HLS PIPELINE II = 1")                                                                   \
            a_T left = a.read();                                                                             \
            b_T right = b.read();                                                                            \
            res_T out;                                                                                       \
            PRAGMA_DATA_PACK(out)                                                                            \
            name<typename a_T::value_type, typename b_T::value_type, typename res_T::value_type,             \
                 ts_row<CONFIG_T, res_T::size>>(left.data, right.data, out.data);                            \
            ts_write(out, y...);                                                                                    \
        }                                                                                                    \
    }
TS_PAIR_STREAM(ts_add)
TS_PAIR_STREAM(ts_sub)
TS_PAIR_STREAM(ts_mul)
#undef TS_PAIR_STREAM

// y = x * scale(i) + offset(i); the constants repeat after `period` elements.
template <class x_T, class res_T, typename CONFIG_T, class... out_T> void ts_affine_stream(hls::stream<x_T> &x, out_T &...y) {
    for (unsigned r = 0; r < CONFIG_T::n_out / res_T::size; r++) {
        #pragma HLS PIPELINE II = 1
        x_T in = x.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        for (unsigned j = 0; j < res_T::size; j++) {
            #pragma HLS UNROLL
            const unsigned i = CONFIG_T::period == res_T::size ? j : r * res_T::size + j;
            typename CONFIG_T::wide_t t = in[j] * CONFIG_T::scale(i);
            out[j] = typename CONFIG_T::wide_t(t + CONFIG_T::offset(i));
        }
        ts_write(out, y...);
    }
}

template <class x_T, class res_T, typename CONFIG_T, class... out_T>
void ts_rescale_stream(hls::stream<x_T> &x, out_T &...y) {
    for (unsigned r = 0; r < CONFIG_T::n_out / res_T::size; r++) {
        #pragma HLS PIPELINE II = 1
        x_T in = x.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        for (unsigned j = 0; j < res_T::size; j++) {
            #pragma HLS UNROLL
            const unsigned i = CONFIG_T::period == 1 ? 0 : CONFIG_T::period == res_T::size ? j : r * res_T::size + j;
            out[j] = ts_rescaled<typename x_T::value_type, typename res_T::value_type, CONFIG_T>(in[j], i);
        }
        ts_write(out, y...);
    }
}

// Keys and values of one inference.
template <class k_T, class v_T, typename CONFIG_T>
void ts_attention_collect(hls::stream<k_T> &k, hls::stream<v_T> &v, typename k_T::value_type keys[CONFIG_T::n_k],
                          typename v_T::value_type values[CONFIG_T::n_v]) {
    for (unsigned i = 0; i < CONFIG_T::kv_len; i++) {
        #pragma HLS PIPELINE II = 1
        k_T key = k.read();
        v_T value = v.read();
        for (unsigned j = 0; j < k_T::size; j++) {
            #pragma HLS UNROLL
            keys[i * k_T::size + j] = key[j];
        }
        for (unsigned j = 0; j < v_T::size; j++) {
            #pragma HLS UNROLL
            values[i * v_T::size + j] = value[j];
        }
    }
}

template <class q_T, class k_T, class v_T, class res_T, typename CONFIG_T, class... out_T>
void ts_attention_rows(hls::stream<q_T> &q, k_T keys[CONFIG_T::n_k], v_T values[CONFIG_T::n_v], out_T &...y) {
    for (unsigned i = 0; i < CONFIG_T::q_len; i++) {
        #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
        const ap_int<2> none[1] = {0};
        q_T in = q.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        ts_attention_row<typename q_T::value_type, k_T, v_T, ap_int<2>, typename res_T::value_type, CONFIG_T>(
            in.data, 0, keys, values, none, 0, out.data, 0, i);
        ts_write(out, y...);
    }
}

template <class q_T, class k_T, class v_T, class res_T, typename CONFIG_T, class... out_T>
void ts_attention_stream(hls::stream<q_T> &q, hls::stream<k_T> &k, hls::stream<v_T> &v, out_T &...y) {
    #pragma HLS DATAFLOW
    typename k_T::value_type keys[CONFIG_T::n_k];
    typename v_T::value_type values[CONFIG_T::n_v];
    #pragma HLS ARRAY_PARTITION variable = keys complete
    #pragma HLS ARRAY_PARTITION variable = values complete
    ts_attention_collect<k_T, v_T, CONFIG_T>(k, v, keys, values);
    ts_attention_rows<q_T, typename k_T::value_type, typename v_T::value_type, res_T, CONFIG_T>(q, keys, values, y...);
}

// With a run-time mask: a row of it for each query row.
template <class q_T, class k_T, class v_T, class m_T, class res_T, typename CONFIG_T, class... out_T>
void ts_masked_rows(hls::stream<q_T> &q, k_T keys[CONFIG_T::n_k], v_T values[CONFIG_T::n_v], hls::stream<m_T> &m,
                    out_T &...y) {
    for (unsigned i = 0; i < CONFIG_T::q_len; i++) {
        #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
        q_T in = q.read();
        m_T mask = m.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        ts_attention_row<typename q_T::value_type, k_T, v_T, typename m_T::value_type, typename res_T::value_type,
                         CONFIG_T>(in.data, 0, keys, values, mask.data, 0, out.data, 0, i);
        ts_write(out, y...);
    }
}

template <class q_T, class k_T, class v_T, class m_T, class res_T, typename CONFIG_T, class... out_T>
void ts_attention_keyed_stream(hls::stream<q_T> &q, hls::stream<k_T> &k, hls::stream<v_T> &v, hls::stream<m_T> &m,
                               out_T &...y) {
    #pragma HLS DATAFLOW
    typename k_T::value_type keys[CONFIG_T::n_k];
    typename v_T::value_type values[CONFIG_T::n_v];
    #pragma HLS ARRAY_PARTITION variable = keys complete
    #pragma HLS ARRAY_PARTITION variable = values complete
    ts_attention_collect<k_T, v_T, CONFIG_T>(k, v, keys, values);
    ts_masked_rows<q_T, typename k_T::value_type, typename v_T::value_type, m_T, res_T, CONFIG_T>(q, keys, values, m, y...);
}

// The second factor of a product.
template <class b_T, typename CONFIG_T>
void ts_product_collect(hls::stream<b_T> &b, typename b_T::value_type factor[CONFIG_T::n_b]) {
    for (unsigned i = 0; i < CONFIG_T::n_b / b_T::size; i++) {
        #pragma HLS PIPELINE II = 1
        b_T row = b.read();
        for (unsigned j = 0; j < b_T::size; j++) {
            #pragma HLS UNROLL
            factor[i * b_T::size + j] = row[j];
        }
    }
}

template <class a_T, class b_T, class res_T, typename CONFIG_T, class... out_T>
void ts_product_rows(hls::stream<a_T> &a, b_T factor[CONFIG_T::n_b], out_T &...y) {
    for (unsigned g = 0; g < CONFIG_T::groups; g++) {
        for (unsigned i = 0; i < CONFIG_T::m; i++) {
            #pragma HLS PIPELINE II = CONFIG_T::reuse_factor
            a_T in = a.read();
            res_T out;
            PRAGMA_DATA_PACK(out)
            ts_product_row<typename a_T::value_type, b_T, typename res_T::value_type, CONFIG_T>(in.data, 0, factor, g,
                                                                                               out.data, 0);
            ts_write(out, y...);
        }
    }
}

template <class a_T, class b_T, class res_T, typename CONFIG_T, class... out_T>
void ts_product_stream(hls::stream<a_T> &a, hls::stream<b_T> &b, out_T &...y) {
    #pragma HLS DATAFLOW
    typename b_T::value_type factor[CONFIG_T::n_b];
    #pragma HLS ARRAY_PARTITION variable = factor complete
    ts_product_collect<b_T, CONFIG_T>(b, factor);
    ts_product_rows<a_T, typename b_T::value_type, res_T, CONFIG_T>(a, factor, y...);
}

// Over n rows (inner > 1), or within a row.
template <class x_T, class res_T, typename CONFIG_T, class... out_T> void ts_sum_stream(hls::stream<x_T> &x, out_T &...y) {
    static const unsigned rows = CONFIG_T::inner > 1 ? CONFIG_T::n : 1;
    static const unsigned terms = CONFIG_T::inner > 1 ? 1 : CONFIG_T::n;
    for (unsigned o = 0; o < CONFIG_T::outer; o++) {
        typename CONFIG_T::sum_t sum[CONFIG_T::inner];
        #pragma HLS ARRAY_PARTITION variable = sum complete
        for (unsigned i = 0; i < rows; i++) {
            #pragma HLS PIPELINE II = 1
            x_T in = x.read();
            res_T out;
            PRAGMA_DATA_PACK(out)
            for (unsigned j = 0; j < CONFIG_T::inner; j++) {
                #pragma HLS UNROLL
                typename CONFIG_T::sum_t s = i == 0 ? typename CONFIG_T::sum_t(0) : sum[j];
                for (unsigned t = 0; t < terms; t++) {
                    #pragma HLS UNROLL
                    s += in[j * terms + t];
                }
                sum[j] = s;
                out[j] = s * CONFIG_T::count();
            }
            if (i + 1 == rows)
                ts_write(out, y...);
        }
    }
}

template <class x_T, class res_T, typename CONFIG_T, class... out_T> void ts_max_stream(hls::stream<x_T> &x, out_T &...y) {
    static const unsigned rows = CONFIG_T::inner > 1 ? CONFIG_T::n : 1;
    static const unsigned terms = CONFIG_T::inner > 1 ? 1 : CONFIG_T::n;
    for (unsigned o = 0; o < CONFIG_T::outer; o++) {
        typename x_T::value_type top[CONFIG_T::inner];
        #pragma HLS ARRAY_PARTITION variable = top complete
        for (unsigned i = 0; i < rows; i++) {
            #pragma HLS PIPELINE II = 1
            x_T in = x.read();
            res_T out;
            PRAGMA_DATA_PACK(out)
            for (unsigned j = 0; j < CONFIG_T::inner; j++) {
                #pragma HLS UNROLL
                for (unsigned t = 0; t < terms; t++) {
                    #pragma HLS UNROLL
                    if ((i == 0 && t == 0) || in[j * terms + t] > top[j])
                        top[j] = in[j * terms + t];
                }
                out[j] = top[j];
            }
            if (i + 1 == rows)
                ts_write(out, y...);
        }
    }
}

// Rows of a constant table, one id at a time.
template <class x_T, class res_T, typename CONFIG_T, class... out_T> void ts_embed_stream(hls::stream<x_T> &x, out_T &...y) {
    for (unsigned r = 0; r < CONFIG_T::n_in; r++) {
        #pragma HLS PIPELINE II = 1
        x_T in = x.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        int id = in[0].to_int();
        id = id < 0 ? 0 : (id >= (int)CONFIG_T::rows ? (int)CONFIG_T::rows - 1 : id);
        for (unsigned j = 0; j < CONFIG_T::cols; j++) {
            #pragma HLS UNROLL
            out[j] = CONFIG_T::table(id * CONFIG_T::cols + j);
        }
        ts_write(out, y...);
    }
}

} // namespace nnet

#endif
