/* MLPerf Tiny's commands (mlcommons/tiny, benchmark/api): that project's runner drives our boards.
 * Commands end in `%`, lines of the answer in CR LF, and every answer ends with `m-ready`. */
#ifndef ESV_MLPERF_H
#define ESV_MLPERF_H

/* Answer a command, its `%` cut off; the text is taken apart in place. */
void mlperf_answer(char *text);

#endif
