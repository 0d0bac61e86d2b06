/* start "" /b COMMAND: wine's own start takes COMMAND apart and quotes it anew; Windows hands it on as it is.
   wine's cmd.exe writes the empty title as "\"\"". Anything else is refused. */
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

#define BEFORE L"\"\\\"\\\"\" /b "

int wmain(void) {
    wchar_t *line = wcsstr(GetCommandLineW(), BEFORE);
    STARTUPINFOW how = {sizeof how};
    PROCESS_INFORMATION child;

    if (line == NULL) {
        fprintf(stderr, "start: only \"\" /b here\n");
        return 1;
    }
    how.dwFlags = STARTF_USESTDHANDLES;
    how.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    how.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    how.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    return !CreateProcessW(NULL, line + wcslen(BEFORE), NULL, NULL, TRUE, 0, NULL, NULL, &how, &child);
}
