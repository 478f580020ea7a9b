/* Random bytes for Rust's std, which asks bcryptprimitives.dll for them. Wine before 9 has no such library; advapi32 has
 * the same under an older name (SystemFunction036, which is RtlGenRandom). */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    return SystemFunction036(buffer, (ULONG)length);
}
