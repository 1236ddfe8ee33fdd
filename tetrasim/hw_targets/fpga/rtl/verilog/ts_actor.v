// A rigid pipeline of LATENCY stages that accepts a firing every II cycles. Port p takes part in firing f of a frame
// when FIRST <= f < LAST and (f - FIRST) % STRIDE == 0; a full output freezes the whole pipeline.
// Licence: Apache-2.0.
module ts_actor #(
    parameter II = 1, LATENCY = 1, FIRINGS = 1, TOTAL = 1, NR = 1, NW = 1,
    parameter [NR*32-1:0] RFIRST = 0, RLAST = 0, RSTRIDE = {NR{32'd1}},
    parameter [NW*32-1:0] WFIRST = 0, WLAST = 0, WSTRIDE = {NW{32'd1}}
) (
    input wire clk, input wire rst,
    input wire [NR-1:0] in_ready, output wire [NR-1:0] pop,
    input wire [NW-1:0] out_full, output wire [NW-1:0] push,
    output wire fire, output wire done
);
    reg [31:0] fired, phase, hold;
    reg [LATENCY-1:0] valid;
    reg [31:0] tag [0:LATENCY-1];
    wire [NR-1:0] need;
    wire [NW-1:0] want;
    genvar p;
    generate
        for (p = 0; p < NR; p = p + 1) begin : reads
            assign need[p] = phase >= RFIRST[p*32 +: 32] && phase < RLAST[p*32 +: 32]
                             && (phase - RFIRST[p*32 +: 32]) % RSTRIDE[p*32 +: 32] == 0;
        end
        for (p = 0; p < NW; p = p + 1) begin : writes
            assign want[p] = valid[LATENCY-1] && tag[LATENCY-1] >= WFIRST[p*32 +: 32]
                             && tag[LATENCY-1] < WLAST[p*32 +: 32]
                             && (tag[LATENCY-1] - WFIRST[p*32 +: 32]) % WSTRIDE[p*32 +: 32] == 0;
        end
    endgenerate
    wire frozen = |(want & out_full);
    assign push = frozen ? {NW{1'b0}} : want;
    assign fire = !frozen && fired < TOTAL && hold == 0 && (need & ~in_ready) == 0;
    assign pop = fire ? need : {NR{1'b0}};
    assign done = fired == TOTAL && valid == 0;
    integer i;
    always @(posedge clk) begin
        if (rst) begin
            fired <= 0;
            phase <= 0;
            hold <= 0;
            valid <= 0;
        end else if (!frozen) begin
            for (i = LATENCY - 1; i > 0; i = i - 1) begin
                valid[i] <= valid[i-1];
                tag[i] <= tag[i-1];
            end
            valid[0] <= fire;
            tag[0] <= phase;
            if (fire) begin
                fired <= fired + 1;
                phase <= phase + 1 == FIRINGS ? 0 : phase + 1;
                hold <= II - 1;
            end else if (hold != 0) hold <= hold - 1;
        end
    end
endmodule
