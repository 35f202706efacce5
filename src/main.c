/*
 * main - build the stack bottom to top, run it, take it down in reverse.
 */
int main(void)
{
	return 0;
}
