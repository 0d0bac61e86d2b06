/* tell WORD…: what arrived. Each argument as <argument> and a line end, in UTF-8; with --env NAME the value of a
   variable, with --here the folder, with --err WORD a word on the other stream, with --exit N the status,
   with --in what comes on standard input, with --wait nothing, for ever. */
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
#include <fcntl.h>
#include <io.h>
#include <windows.h>

static void say(FILE *to, const wchar_t *text) {
    static char bytes[65536];
    WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, sizeof bytes, NULL, NULL);
    fprintf(to, "<%s>\n", bytes);
    fflush(to);
}

int wmain(int argc, wchar_t **argv) {
    static wchar_t text[32768];
    _setmode(0, _O_BINARY), _setmode(1, _O_BINARY), _setmode(2, _O_BINARY);
    for (int i = 1; i < argc; i++) {
        if (!wcscmp(argv[i], L"--wait")) Sleep(INFINITE);
        else if (!wcscmp(argv[i], L"--in")) for (int byte; (byte = getchar()) != EOF;) putchar(byte);
        else if (!wcscmp(argv[i], L"--here")) GetCurrentDirectoryW(32768, text), say(stdout, text);
        else if (!wcscmp(argv[i], L"--env") && i + 1 < argc)
            say(stdout, GetEnvironmentVariableW(argv[++i], text, 32768) ? text : L"");
        else if (!wcscmp(argv[i], L"--err") && i + 1 < argc) say(stderr, argv[++i]);
        else if (!wcscmp(argv[i], L"--exit") && i + 1 < argc) return _wtoi(argv[i + 1]);
        else say(stdout, argv[i]);
    }
    return 0;
}
