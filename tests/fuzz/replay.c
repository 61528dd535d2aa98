/* replay.c: stands in for libFuzzer where the compiler has none: gives the target each file that is named, once. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");
		size_t room = 1 << 20, n;
		uint8_t *data = malloc(room), *exact;

		if (!f || !data) {
			perror(argv[i]);
			return 1;
		}
		n = fread(data, 1, room, f);
		fclose(f);
		exact = malloc(n ? n : 1); /* of its very size, so that a sanitizer sees what reads behind it */
		if (!exact)
			return 1;
		for (size_t k = 0; k < n; k++)
			exact[k] = data[k];
		LLVMFuzzerTestOneInput(exact, n);
		free(exact);
		free(data);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
