/* What Windows' sshd does with a command: cmd.exe /c "TEXT", TEXT untouched, started in %USERPROFILE%,
   in a console without a window, in a job that ends with it. An argv would be quoted anew on its way
   through wine, so TEXT comes in the environment, from OpenSSH itself. */
#include <windows.h>
#include <stdio.h>
#include <wchar.h>

#define LONGEST 8191
#define CMD L"C:\\windows\\system32\\cmd.exe"

int wmain(void) {
    static wchar_t text[65536], line[66000], home[MAX_PATH];
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limit = {0};
    STARTUPINFOW how = {sizeof how};
    PROCESS_INFORMATION child;
    DWORD status = 255;
    HANDLE job = CreateJobObjectW(NULL, NULL);

    GetEnvironmentVariableW(L"SSH_ORIGINAL_COMMAND", text, 65536);
    SetEnvironmentVariableW(L"SSH_ORIGINAL_COMMAND", NULL);
    GetEnvironmentVariableW(L"USERPROFILE", home, MAX_PATH);
    wcscpy(line, L"\"" CMD L"\" /c \"");
    wcscat(line, text);
    wcscat(line, L"\"");
    if (wcslen(line) > LONGEST) {
        fwprintf(stderr, L"The command line is too long.\n");
        return 1;
    }
    limit.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limit, sizeof limit);
    how.dwFlags = STARTF_USESTDHANDLES;
    how.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    how.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    how.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    if (!CreateProcessW(CMD, line, NULL, NULL, TRUE, CREATE_SUSPENDED | CREATE_NO_WINDOW, NULL, home, &how, &child))
        return 255;
    AssignProcessToJobObject(job, child.hProcess);
    ResumeThread(child.hThread);
    WaitForSingleObject(child.hProcess, INFINITE);
    GetExitCodeProcess(child.hProcess, &status);
    TerminateJobObject(job, 1);
    return (int)status;
}
