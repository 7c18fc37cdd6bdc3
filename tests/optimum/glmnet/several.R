# Writes what test_several_targets.py compares with: the rows of glmnet's MultiGaussianExample with a weight each, and
# paths on them with a penalty factor for each column, a line for each λ with whether the responses were standardised,
# alpha, lambda, and for each response the intercept and the weights, in the columns' own units. Rscript several.R FOLDER
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
folder <- commandArgs(trailingOnly = TRUE)[1]
data(MultiGaussianExample, package = "glmnet")
x <- MultiGaussianExample$x
y <- MultiGaussianExample$y
weight <- 1 + seq_len(nrow(x)) %% 4
factor <- c(0, 2, 1, 1, 0.5, 1, 3, 1, 1, 0, rep(1, ncol(x) - 10))

write_numbers <- function(numbers, name) {
  file <- gzfile(file.path(folder, paste0(name, ".csv.gz")), "w")
  for (i in seq_len(nrow(numbers))) cat(sprintf("%.17g", numbers[i, ]), sep = c(rep(",", ncol(numbers) - 1), "\n"), file = file)
  close(file)
}

path <- function(alpha, is_standardised, ...) {
  fit <- glmnet::glmnet(x, y, "mgaussian", alpha = alpha, standardize.response = is_standardised, thresh = 1e-14,
                        maxit = 1e7, nlambda = 20, ...)
  weights <- lapply(coef(fit), function(each) t(as.matrix(each)))
  cbind(is_standardised, alpha, fit$lambda, do.call(cbind, weights))
}

paths <- function(...) {
  do.call(rbind, lapply(c(FALSE, TRUE), function(is_standardised) {
    do.call(rbind, lapply(c(1, 0.5), path, is_standardised = is_standardised, ...))
  }))
}

write_numbers(cbind(x, y, weight), "several_rows")
write_numbers(matrix(factor, nrow = 1), "several_factor")
write_numbers(paths(), "several")
write_numbers(paths(weights = weight, penalty.factor = factor), "several_terms")
