/* A calculator as one meets them: it is right about most of what it is asked, and has four faults
 * that nobody has found yet.
 *
 *   ((((...))))   one call for each parenthesis: a deep nesting ends the stack   SIGSEGV
 *   1/0           a check that was meant for the developer                       SIGABRT
 *   2^-1          counts the exponent down until it is zero                      never ends
 *   9!!           reserves a table for each factorial, and looks at no result    memory, SIGSEGV
 */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_BYTES (8u << 20)

struct scanner {
    const char *at;
    const char *error;
};

static double sum(struct scanner *scanner);

static void skip_spaces(struct scanner *scanner) {
    while (isspace((unsigned char)*scanner->at))
        scanner->at++;
}

static int take(struct scanner *scanner, char wanted) {
    skip_spaces(scanner);
    if (*scanner->at != wanted)
        return 0;
    scanner->at++;
    return 1;
}

static double factorial(double number) {
    double *table = malloc(TABLE_BYTES);
    double result = 1;
    int step;
    memset(table, 0, TABLE_BYTES);
    for (step = 2; step <= number && step < 171; step++)
        table[step] = result *= step;
    if (number > 170) /* too large to be right: the digits are summed over and over */
        result = factorial(number / 2) + factorial(number / 2);
    /* the table may be wanted again */
    return result;
}

static double primary(struct scanner *scanner) {
    char *end;
    double value;
    skip_spaces(scanner);
    if (take(scanner, '(')) {
        value = sum(scanner);
        if (!take(scanner, ')'))
            scanner->error = "a parenthesis is not closed";
    } else if (take(scanner, '-')) {
        value = -primary(scanner);
    } else {
        value = strtod(scanner->at, &end);
        if (end == scanner->at)
            scanner->error = "a number is missing";
        scanner->at = end;
    }
    while (take(scanner, '!'))
        value = factorial(value);
    return value;
}

static double power(struct scanner *scanner) {
    double base = primary(scanner);
    while (take(scanner, '^')) {
        volatile long exponent = (long)primary(scanner);
        double result = 1;
        while (exponent-- != 0)
            result *= base;
        base = result;
    }
    return base;
}

static double product(struct scanner *scanner) {
    double value = power(scanner);
    for (;;) {
        if (take(scanner, '*')) {
            value *= power(scanner);
        } else if (take(scanner, '/')) {
            double divisor = power(scanner);
            if (divisor == 0) {
                fputs("calculator.c: divisor != 0 does not hold\n", stderr);
                abort();
            }
            value /= divisor;
        } else {
            return value;
        }
    }
}

static double sum(struct scanner *scanner) {
    double value = product(scanner);
    for (;;) {
        if (take(scanner, '+'))
            value += product(scanner);
        else if (take(scanner, '-'))
            value -= product(scanner);
        else
            return value;
    }
}

/* Gives NULL and the value, or what is wrong with the expression. */
const char *calculate(const char *expression, double *value) {
    struct scanner scanner = {expression, NULL};
    *value = sum(&scanner);
    skip_spaces(&scanner);
    if (!scanner.error && *scanner.at)
        scanner.error = "there is something behind the expression";
    return scanner.error;
}
