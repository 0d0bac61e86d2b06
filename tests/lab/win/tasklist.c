/* tasklist /fi "imagename eq NAME" /fo csv /nh: what Windows has and wine only pretends to have. Anything
   else is refused. */
#include <stdio.h>
#include <string.h>
#include <windows.h>
#include <tlhelp32.h>

int main(int argc, char **argv) {
    PROCESSENTRY32 process = {sizeof process};
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    const char *name;
    int found = 0;

    if (argc != 6 || stricmp(argv[1], "/fi") || strnicmp(argv[2], "imagename eq ", 13) || stricmp(argv[3], "/fo") ||
        stricmp(argv[4], "csv") || stricmp(argv[5], "/nh")) {
        fprintf(stderr, "ERROR: Invalid argument/option.\n");
        return 1;
    }
    name = argv[2] + 13;
    for (BOOL more = Process32First(all, &process); more; more = Process32Next(all, &process))
        if (!stricmp(process.szExeFile, name)) {
            found = 1;
            printf("\"%s\",\"%lu\",\"Services\",\"0\",\"1,024 K\"\n", process.szExeFile, process.th32ProcessID);
        }
    if (!found) printf("INFO: No tasks are running which match the specified criteria.\n");
    return 0;
}
