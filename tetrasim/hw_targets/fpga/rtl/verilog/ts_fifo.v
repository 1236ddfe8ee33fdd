// A FIFO of tokens (only their number matters): up to two entries a shift register, deeper ones a RAM whose token can
// be read two cycles after it was written. Licence: Apache-2.0.
module ts_fifo #(parameter DEPTH = 2, INIT = 0, RAM = 0) (
    input wire clk, input wire rst,
    input wire push, output wire full,
    input wire pop, output wire ready,
    output reg [31:0] highest
);
    reg [31:0] count, readable;
    reg late;
    wire [31:0] next = count + {31'b0, push} - {31'b0, pop};
    assign full = count >= DEPTH;
    assign ready = readable != 0;
    always @(posedge clk) begin
        if (rst) begin
            count <= INIT;
            readable <= INIT;
            highest <= INIT;
            late <= 1'b0;
        end else begin
            count <= next;
            readable <= readable - {31'b0, pop} + {31'b0, RAM != 0 ? late : push};
            late <= push;
            if (next > highest) highest <= next;
        end
    end
endmodule
