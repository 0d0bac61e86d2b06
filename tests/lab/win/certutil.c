/* certutil -hashfile FILE SHA256: what Windows has and wine only pretends to have. Anything else is refused. */
#define _WIN32_WINNT 0x0601
#include <stdio.h>
#include <wchar.h>
#include <windows.h>
#include <bcrypt.h>

static int failed(unsigned code) {
    printf("CertUtil: -hashfile command FAILED: 0x%08x\n", code);
    return (int)code;
}

int wmain(int argc, wchar_t **argv) {
    static unsigned char block[1 << 20], digest[32];
    BCRYPT_ALG_HANDLE algorithm;
    BCRYPT_HASH_HANDLE hash;
    HANDLE file;
    DWORD got;

    if (argc != 4 || wcsicmp(argv[1], L"-hashfile") || wcsicmp(argv[3], L"SHA256")) return failed(0x80070057);
    file = CreateFileW(argv[2], GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) return failed(0x80070002);
    if (GetFileSize(file, NULL) == 0) return failed(0x800703ee); /* as the real one */
    BCryptOpenAlgorithmProvider(&algorithm, BCRYPT_SHA256_ALGORITHM, NULL, 0);
    BCryptCreateHash(algorithm, &hash, NULL, 0, NULL, 0, 0);
    while (ReadFile(file, block, sizeof block, &got, NULL) && got) BCryptHashData(hash, block, got, 0);
    BCryptFinishHash(hash, digest, sizeof digest, 0);
    printf("SHA256 hash of file:\n");
    for (unsigned i = 0; i < sizeof digest; i++) printf("%02x", digest[i]);
    printf("\nCertUtil: -hashfile command completed successfully.\n");
    return 0;
}
