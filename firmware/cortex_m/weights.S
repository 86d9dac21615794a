/* The spike program, used in place: PROGRAM_FILE is the .esv. */
    .section .weights, "a", %progbits
    .balign 16
    .incbin PROGRAM_FILE
