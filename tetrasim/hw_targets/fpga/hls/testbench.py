"""hls4ml's testbench made one that decides: exact expected outputs, PASS or FAIL, and an exit code.

hls4ml writes a testbench that prints predictions beside the firmware's results and compares nothing. Its text
is kept; what is added reads the expected outputs, which are the bit-exact ones of the emulation, and counts
the values that differ. It builds with g++ alone from any folder that holds the project:

    g++ -Ifirmware/ap_types tetrasim_top_test.cpp firmware/tetrasim_top.cpp -o testbench && ./testbench
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tetrasim.hw_targets.fpga.hls.plan import Floats

LOOP = "            // hls-fpga-machine-learning insert tb-output\n"
END = "    return 0;\n}\n"
DIGITS = 17  # of a double: what is read back is the number that was written

COMPARE = """
            // every value must be the expected one, to the last bit
            std::istringstream made(said.str());
            for (unsigned i = 0; i < pr.size(); i++) {
                double value;
                compared++;
                if (!(made >> value) || value != pr[i]) {
                    if (wrong++ < 10)
                        std::cout << "inference " << e << ", output " << i << ": not " << pr[i] << std::endl;
                }
            }
            fout << said.str();
"""

VERDICT = """    if (compared == 0) {
        std::cout << "FAIL: no inputs or no expected outputs in tb_data" << std::endl;
        return 1;
    }
    if (wrong > 0) {
        std::cout << "FAIL: " << wrong << " of " << compared << " values differ" << std::endl;
        return 1;
    }
    std::cout << "PASS: " << compared << " values, bit for bit" << std::endl;
    return 0;
}
"""

WEIGHTS = """
// Where the C simulation finds the weights: beside it (Vitis copies them there), or in the project.
#if !defined(WEIGHTS_DIR) && !defined(__SYNTHESIS__)
#include <fstream>
#include <string>
static inline std::string tetrasim_weights() {{
    return std::ifstream("weights/{first}").good() ? "weights" : "firmware/weights";
}}
#define WEIGHTS_DIR tetrasim_weights()
#endif
"""


def write_testbench(folder: Path, project: str, inputs: Floats, outputs: Floats) -> None:
    """Make hls4ml's testbench in `folder` compare, and write its data.

    `inputs` and `outputs` are [N, all inputs or outputs in a row]: numbers that the firmware's types hold
    exactly.
    """
    data = folder / "tb_data"
    data.mkdir(exist_ok=True)
    np.savetxt(data / "tb_input_features.dat", inputs, fmt=f"%.{DIGITS}g")
    np.savetxt(data / "tb_output_predictions.dat", outputs, fmt=f"%.{DIGITS}g")
    bench = folder / f"{project}_test.cpp"
    bench.write_text(comparing(bench.read_text()))
    first = next(iter(sorted((folder / "firmware" / "weights").glob("*.txt"))), None)
    if first is not None:
        defines = folder / "firmware" / "defines.h"
        head, end, rest = defines.read_text().rpartition("#endif")
        defines.write_text(f"{head}{WEIGHTS.format(first=first.name)}\n{end}{rest}")


def comparing(text: str) -> str:
    """The testbench `text` of hls4ml with a comparison in its loop and a verdict at its end."""
    before, marker, after = text.partition(LOOP)
    printed, brace, rest = after.partition("        }\n")
    assert marker
    assert brace
    assert rest.endswith(END)
    said = "            std::ostringstream said;\n            said.precision(17);\n"
    loop = before + said + marker + printed.replace(", fout);", ", said);") + COMPARE + brace
    loop = loop.replace("std::vector<float> pr;", "std::vector<double> pr;")
    loop = loop.replace("    int e = 0;\n", "    int e = 0;\n    unsigned long compared = 0, wrong = 0;\n")
    loop = loop.replace("#include <map>\n", "#include <map>\n#include <sstream>\n#include <string.h>\n")
    return loop + rest.removesuffix(END) + VERDICT
